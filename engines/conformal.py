"""Split-conformal thresholds and p-values from the scores of held-out good parts.

Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World" (2005), ch. 2; the split form is of Papadopoulos et
al. 2002. The only assumption is that production's good parts are exchangeable with the held-out ones.
"""

import math

import numpy as np
from numpy.typing import NDArray

from engines.errors import ScoringError

DEFAULT_FALSE_REJECT_RATE = 0.01
# Absorbs the rounding of (n + 1) * rate, which must count as an integer when rate was computed as k / (n + 1).
_ROUNDING = 1e-9


def attainable_rate(held_out: int) -> float:
    """The smallest false-reject rate that `held_out` good scores can promise: 1 / (n + 1)."""
    return 1.0 / (held_out + 1)


def images_needed(rate: float) -> int:
    """How many held-out good images a false-reject rate in (0, 1) needs: the smallest n with 1 / (n + 1) <= rate."""
    return max(1, math.ceil(1.0 / rate - 1.0 - _ROUNDING))


def rejected(held_out: int, rate: float) -> int:
    """How many of the p-values k / (n + 1), with k from 1 to n + 1, are at most a rate in (0, 1)."""
    return math.floor((held_out + 1) * rate + _ROUNDING)


def threshold(scores: NDArray[np.floating], rate: float) -> float:
    """The ceil((n + 1)(1 - rate))-th smallest of n held-out good scores.

    A good part's score exceeds it with probability at most `rate`.

    Args:
        scores: [n], the held-out good scores of one part class, in any order.
        rate: target false-reject rate, in (0, 1).

    Raises:
        ScoringError: `rate` is outside (0, 1), or below what n scores can promise.
    """
    n = len(scores)
    if not 0.0 < rate < 1.0:
        raise ScoringError(f"A false-reject rate of {rate:g} is not between 0 and 1; give a fraction such as 0.01.")
    above = rejected(n, rate)
    if n == 0 or above < 1:
        raise ScoringError(
            f"A false-reject rate of {rate:g} needs at least {images_needed(rate)} held-out good images per class, "
            f"and there are {n}; add good images or ask for {rounded_up(attainable_rate(n))} or more."
        )
    rank = n + 1 - above
    return float(np.partition(scores, rank - 1)[rank - 1])


def rounded_up(rate: float) -> str:
    """A rate with four decimals that is attainable where `rate` is."""
    return f"{math.ceil(rate * 1e4) / 1e4:.4f}"


def p_value(sorted_scores: NDArray[np.floating], score: float) -> float:
    """(1 + number of held-out scores >= `score`) / (n + 1), in (0, 1]: small means unlike the good parts.

    Args:
        sorted_scores: [n], ascending.
        score: the score of the inspected part.
    """
    n = len(sorted_scores)
    above = n - int(np.searchsorted(sorted_scores, score, side="left"))
    return (1 + above) / (n + 1)
