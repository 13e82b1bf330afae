"""Differences of AUROC with their uncertainty, and rank correlation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

RESAMPLES = 2000
_LEVEL = 0.95
# All orders of so many classes are gone through; of more, as many random ones.
_MOST_PERMUTED = 7
_RANDOM_ORDERS = 5000


@dataclass(frozen=True)
class ClassScores:
    """Image scores [N] of one class's test pictures; `defective` [N] is True for those that are."""

    defective: NDArray[np.bool_]
    scores: NDArray[np.float64]


Scores = Mapping[str, ClassScores]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        return self.low <= 0 <= self.high

    def __neg__(self) -> "Interval":
        return Interval(-self.estimate, -self.high, -self.low)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation in [-1, 1], and how often shuffled classes give one as low, (0, 1]."""

    rho: float
    p_value: float


def auroc(found: ClassScores) -> float:
    """The share of pairs of a defective and a good picture where the defective one scores higher; ties count half."""
    return float(_wins(found).mean())


def mean_auroc(scores: Scores) -> float:
    """Mean over classes."""
    return float(np.mean([auroc(found) for found in scores.values()]))


class Bootstrap:
    """Resampled test pictures, stratified by class and by good and defective.

    Every engine meets the same resamples, so that differences are paired: what makes one resample easy makes it easy
    for both. Percentile intervals (Efron & Tibshirani 1993, chapter 13).

    Args:
        labels: bool [N] of each class, True for defective.
        resamples: how many.
        seed: with a class's name it decides that class's resamples.
    """

    def __init__(self, labels: Mapping[str, NDArray[np.bool_]], resamples: int = RESAMPLES, seed: int = 0) -> None:
        self._counts = {name: _draw(name, defective, resamples, seed) for name, defective in labels.items()}
        self._known: dict[tuple[str, bytes], NDArray[np.float64]] = {}

    def auroc(self, name: str, found: ClassScores) -> NDArray[np.float64]:
        """One class's AUROC in each resample, [R].

        The pictures' multiplicities c, d weigh the comparisons W: AUROC = c W d / (|c| |d|).
        """
        key = name, found.scores.tobytes()
        if key not in self._known:
            bad, good = self._counts[name]
            self._known[key] = ((bad @ _wins(found)) * good).sum(1) / (bad[0].sum() * good[0].sum())
        return self._known[key]

    def difference(self, *pairs: tuple[Scores, Scores]) -> Interval:
        """Mean over pairs of engines of the first's mean AUROC less the second's, over the classes that both have."""
        estimates, draws = [], []
        for first, second in pairs:
            names = [name for name in first if name in second]
            estimates.append(np.mean([auroc(first[name]) - auroc(second[name]) for name in names]))
            draws.append(np.mean([self.auroc(name, first[name]) - self.auroc(name, second[name]) for name in names], 0))
        return _interval(float(np.mean(estimates)), np.mean(draws, 0))

    def mean(self, scores: Scores) -> Interval:
        """Mean AUROC of one engine."""
        return _interval(mean_auroc(scores), np.mean([self.auroc(name, scores[name]) for name in scores], axis=0))


def spearman_over_classes(x: NDArray[np.float64], y: NDArray[np.float64], seed: int = 0) -> Correlation | None:
    """Rank correlation of two quantities of methods and classes, [M, K] each, pooled.

    Methods see the same classes, so their values are not independent: the p-value comes from shuffling the classes of
    `y` alike in all methods; it is one-sided, for the claim that `y` falls where `x` grows. With K classes it cannot be
    below 1 / K!.

    Returns None where either has no variation.
    """
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rho = _rho(x, y)
    shuffled = [_rho(x, y[:, list(order)]) for order in _orders(x.shape[1], seed)]
    return Correlation(rho, float(np.mean(np.array(shuffled) <= rho + 1e-12)))


def _orders(count: int, seed: int) -> Iterator[Sequence[int]]:
    if count <= _MOST_PERMUTED:
        yield from permutations(range(count))
        return
    generator = np.random.default_rng(seed)
    yield range(count)
    for _ in range(_RANDOM_ORDERS):
        yield generator.permutation(count).tolist()


def _rho(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def _wins(found: ClassScores) -> NDArray[np.float64]:
    """[defective, good]: 1 where the defective picture scores higher, a half where both score alike."""
    bad, good = found.scores[found.defective, None], found.scores[None, ~found.defective]
    return np.asarray((bad > good) + 0.5 * (bad == good))


def _draw(
    name: str, defective: NDArray[np.bool_], resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each defective [R, D] and each good picture [R, G] is drawn."""
    generator = np.random.default_rng([seed, *name.encode()])
    sizes = int(defective.sum()), int((~defective).sum())
    bad, good = (generator.multinomial(size, np.full(size, 1 / size), resamples).astype(np.float64) for size in sizes)
    return bad, good


def _interval(estimate: float, draws: NDArray[np.float64]) -> Interval:
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))
