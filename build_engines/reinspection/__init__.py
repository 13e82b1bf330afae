"""An archive of images through one engine or two, on Ray: the evidence before a new engine takes over."""
