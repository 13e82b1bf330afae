"""From an activation's histogram to the largest magnitude that is kept: four ways, for any number of bits.

Each takes a `Histogram` and the largest integer (127 for 8 bits), and gives a magnitude >= 0; what lies beyond it is
clipped. The zeros of a ReLU lose nothing at any range, so no way counts them but `percentile`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from build_engines.quantization.histogram import Histogram

Calibrator = Callable[[Histogram, int], float]

PERCENTILE = 99.99
# Ranges that `entropy` and `mse` try.
_CANDIDATES = 256
# No range narrower than this share of the largest magnitude is tried.
_NARROWEST = 1 / 16


def minmax(histogram: Histogram, largest_integer: int) -> float:
    """The largest magnitude seen: nothing is clipped that a calibration image holds."""
    return histogram.largest


def percentile(histogram: Histogram, largest_integer: int, share: float = PERCENTILE) -> float:
    """The magnitude that `share` percent of all values, zeros too, do not exceed; exact within one bin."""
    total = histogram.zeros + histogram.counts.sum()
    below = histogram.zeros + np.concatenate([[0.0], np.cumsum(histogram.counts)])
    return min(float(np.interp(share / 100 * total, below, histogram.edges)), histogram.largest)


def entropy(histogram: Histogram, largest_integer: int) -> float:
    """The range whose quantized distribution is nearest in relative entropy.

    Migacz 2017, "8-bit Inference with TensorRT". With the zeros counted, their one bin would decide alone and the range
    collapse.
    """
    bins = histogram.in_use
    levels = largest_integer + 1
    if bins <= levels:
        return histogram.largest
    fewest = max(levels, int(bins * _NARROWEST))
    tried = np.unique(np.linspace(fewest, bins, _CANDIDATES).astype(int))
    divergences = [_divergence(histogram.counts[:bins], int(kept), levels) for kept in tried]
    best = int(tried[int(np.argmin(divergences))])
    return min(best * histogram.width, histogram.largest)


def mse(histogram: Histogram, largest_integer: int) -> float:
    """The range of least expected squared error, values taken as even within a bin."""
    if not histogram.largest:
        return 0.0
    ranges = np.linspace(_NARROWEST, 1.0, _CANDIDATES) * histogram.largest
    used = np.flatnonzero(histogram.counts)
    steps = (ranges / largest_integer)[:, None]
    low, high = (_squared_error(histogram.edges[used + end], steps, largest_integer) for end in (0, 1))
    errors = (high - low) @ histogram.counts[used]
    return float(ranges[int(np.argmin(errors))])


CALIBRATORS: dict[str, Calibrator] = {"minmax": minmax, "entropy": entropy, "percentile": percentile, "mse": mse}


def _divergence(counts: NDArray[np.float64], kept: int, levels: int) -> float:
    """KL(P || Q): P is cut off after `kept` bins, its tail in the last one; Q is P's bins put in `levels` steps."""
    expected = counts[:kept].copy()
    expected[-1] += counts[kept:].sum()
    starts = np.arange(levels) * kept // levels
    sizes = np.diff(np.append(starts, kept))
    filled = counts[:kept] > 0
    # A step's mass is spread evenly over those of its bins that hold anything.
    holding = np.maximum(np.add.reduceat(filled, starts, dtype=np.int64), 1)
    mass = np.add.reduceat(counts[:kept], starts)
    spread = np.repeat(mass / holding, sizes) * filled
    present = expected > 0
    p, q = expected[present] / expected.sum(), spread[present] / max(spread.sum(), 1e-12)
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-12))))


def _squared_error(x: NDArray[np.float64], step: NDArray[np.float64], largest_integer: int) -> NDArray[np.float64]:
    """The integral from 0 to `x` of (t - Q(t))^2, where Q rounds to multiples of `step` up to `largest_integer`.

    Each full step adds step^3 / 12; what is left of the last one, or beyond the largest integer, a third of its cube.
    """
    nearest = np.minimum(np.rint(x / step), largest_integer)
    return np.asarray(nearest * step**3 / 12 + (x - nearest * step) ** 3 / 3)
