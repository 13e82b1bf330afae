"""What is kept of an activation while calibration images pass: a histogram of magnitudes, as wide as their range."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import GraphError

BINS = 2048


class Histogram:
    """Counts of |x| in `BINS` equal bins from 0 to `limit`; exact zeros, a ReLU's above all, are counted apart.

    When a larger magnitude comes, bins are joined in pairs, so that one pass is enough and half of them stay in use.

    Attributes:
        counts: float64 [BINS], without the zeros.
        zeros: how many values were exactly 0.
        largest: the largest magnitude, exact; 0 before anything was seen.
        limit: upper end of the last bin.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.float64] = np.zeros(BINS)
        self.zeros = 0
        self.largest = 0.0
        self.limit = 0.0

    @property
    def width(self) -> float:
        """Of one bin."""
        return self.limit / BINS

    @property
    def edges(self) -> NDArray[np.float64]:
        """Where bins begin and end, [BINS + 1]."""
        return np.linspace(0.0, self.limit, BINS + 1)

    @property
    def in_use(self) -> int:
        """Bins up to the one with the largest magnitude."""
        return int(np.flatnonzero(self.counts)[-1]) + 1 if self.counts.any() else 0

    def observe(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape. Raises GraphError where one is no number."""
        magnitudes = np.abs(np.ascontiguousarray(values, np.float32)).reshape(-1, 1)
        largest = float(magnitudes.max(initial=0.0))
        if not np.isfinite(largest):
            raise GraphError("An activation is no finite number on calibration images; train with a smaller --lr.")
        self.largest = max(self.largest, largest)
        if not largest:
            self.zeros += magnitudes.size
            return
        self._reach(largest)
        zeros = magnitudes.size - cv2.countNonZero(magnitudes)
        found = cv2.calcHist([magnitudes], [0], None, [BINS], [0.0, self.limit])
        self.counts += np.asarray(found, np.float64).reshape(BINS)
        self.counts[0] -= zeros
        self.zeros += zeros

    def _reach(self, largest: float) -> None:
        # The upper end is outside the last bin, and OpenCV computes bins in float32.
        needed = largest * (1.0 + 1e-5)
        if not self.limit:
            self.limit = needed
        while self.limit < needed:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(1)
            self.counts[BINS // 2 :] = 0.0
            self.limit *= 2.0
