"""Integers of so many bits in place of weights: symmetric, one scale an output channel, stored as int8."""

import numpy as np
from numpy.typing import NDArray

BITS = (8, 6, 4)
_SMALLEST_SCALE = 1e-12
# Shares of a channel's largest weight that are tried as its range below 8 bits.
_RANGES = np.linspace(0.4, 1.0, 31, dtype=np.float32)


def largest_integer(bits: int) -> int:
    """The largest on both sides, as the zero point is 0: 127 for 8 bits, 7 for 4."""
    return 2 ** (bits - 1) - 1


def weight_integers(weights: NDArray[np.float32], bits: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a convolution's weights.

    At 8 bits a channel's largest weight becomes 127. Below, steps are so coarse that clipping it can pay: the range of
    least squared error is taken (Banner et al. 2019, arXiv 1810.05723).

    Args:
        weights: [C, ...], C output channels.
        bits: one of `BITS`.

    Returns:
        int8 like `weights`, within +-`largest_integer(bits)`, and scales float32 [C] > 0.
    """
    rows = weights.reshape(len(weights), -1)
    most = largest_integer(bits)
    full = np.maximum(np.abs(rows).max(axis=1) / most, _SMALLEST_SCALE).astype(np.float32)
    scales = full
    if bits < 8:
        errors = np.stack([np.square(_rounded(rows, full * share, most) - rows).sum(1) for share in _RANGES])
        scales = full * _RANGES[errors.argmin(axis=0)]
    integers = np.rint(rows / scales[:, None]).clip(-most, most).astype(np.int8)
    return integers.reshape(weights.shape), scales


def _rounded(rows: NDArray[np.float32], scales: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    return np.asarray(np.rint(rows / scales[:, None]).clip(-most, most) * scales[:, None])
