"""The runtime of unispect: bundles, image decoding, backends, scoring and heatmaps. Imports no torch."""
