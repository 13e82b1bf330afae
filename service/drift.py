"""Whether production is still as in training: per part class a running test on the p-values of the parts that pass.

While parts that pass are exchangeable with the good parts that the thresholds come from, each of the p-values
k / (n + 1) that pass is as likely as the next, a priori. Those n good parts are few, so that the p-values that follow
are not uniform given them; what is tested is therefore where a part falls among the good parts *and* all that passed
before it, as in online conformal prediction (Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005,
section 2.2 and ch. 7). From the p-values alone that is Polya's urn: with c_k earlier parts at p-value k / (n + 1), the
next one falls there with probability (c_k + 1) / sum of (c + 1), whatever the scores' distribution.

Alternatives by which scores become higher, or lower, bet against it. Each is a CUSUM (Page 1954) of a conformal test
martingale (Vovk et al., "Retrain or Not Retrain", 2021), S = max(1, S) * bet, and their mean is an e-detector (Shin,
Ramdas & Rinaldo, 2023): on the average at least as many parts pass before a false alarm as the mean has to reach.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from engines.bundle import PartClass
from engines.conformal import p_value

# Decimal logarithms. A false alarm is as rare as one in a million parts that pass.
ALARM = 6.0
# What is far beyond the alarm takes as long to come back.
_MOST = 9.0
# Of p-values u: density a * u ** (a - 1), and mirrored. The smaller a, the larger the change that it is quickest for.
_EXPONENTS = np.array([0.3, 0.6, 0.85])

Direction = Literal["higher", "lower"]


class DriftTest:
    """The running test of one part class. Not thread-safe.

    Args:
        part: its good scores and the largest score that passes say which p-values pass.

    Attributes:
        parts: that passed and were tested.
        statistic: decimal logarithm of the e-detector, 0 or more; a false alarm at `ALARM` comes after 10 ** `ALARM`
            parts or more, on the average.
    """

    def __init__(self, part: PartClass) -> None:
        scores = np.sort(np.array(part.good_scores, np.float32))
        self._ranks = len(scores) + 1
        # As the judge compares: a score that equals the limit passes.
        self._first = self._rank(p_value(scores, part.pass_limit))
        self._seen = np.zeros(self._ranks - self._first + 1, np.int64)
        self._cusums = np.ones(2 * len(_EXPONENTS))
        self.parts = 0
        self.statistic = 0.0

    @property
    def drifting(self) -> bool:
        """Whether production is not as in training."""
        return self.statistic >= ALARM

    @property
    def direction(self) -> Direction | None:
        """Which way the scores have moved; None while there is no alarm."""
        if not self.drifting:
            return None
        return "higher" if self._cusums.argmax() < len(_EXPONENTS) else "lower"

    def observe(self, p: float) -> None:
        """Take the next part that passed, by its p-value."""
        place = self._rank(p) - self._first
        # Of a p-value that cannot pass nothing follows; it comes from another engine's record.
        if not 0 <= place < len(self._seen):
            return
        total = int(self._seen.sum()) + len(self._seen)
        low = (int(self._seen[:place].sum()) + place) / total
        high = low + (int(self._seen[place]) + 1) / total
        bets = np.concatenate(
            (high**_EXPONENTS - low**_EXPONENTS, (1.0 - low) ** _EXPONENTS - np.maximum(1.0 - high, 0.0) ** _EXPONENTS)
        )
        self._cusums = np.minimum(np.maximum(self._cusums, 1.0) * bets / (high - low), 10.0**_MOST)
        self.statistic = max(0.0, float(np.log10(self._cusums.mean())))
        self.parts += 1
        # In an alarm the test must not get used to what it warns of.
        if not self.drifting:
            self._seen[place] += 1

    def _rank(self, p: float) -> int:
        return round(p * self._ranks)


def drift_tests(parts: Iterable[PartClass]) -> dict[str, DriftTest]:
    """A test for each part class, by name."""
    return {part.name: DriftTest(part) for part in parts}
