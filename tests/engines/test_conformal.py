"""Split-conformal thresholds keep what they promise."""

import re

import numpy as np
import pytest

from engines.conformal import attainable_rate, images_needed, p_value, threshold
from engines.errors import ScoringError


@pytest.mark.parametrize(("held_out", "rate"), [(19, 0.05), (99, 0.01), (150, 0.01), (60, 0.1), (9, 0.1)])
def test_promised_false_reject_rate_holds(held_out: int, rate: float) -> None:
    """Over many draws of held-out sets the mean rate is k / (n + 1) <= rate exactly, for continuous scores.

    A set's rate follows Beta(k, n + 1 - k), so the mean over 20,000 sets has a known standard error, and five of them
    are a bound that one seed in a million breaks.
    """
    rng = np.random.default_rng(7)
    repetitions = 20_000
    # Uniform scores lose nothing: thresholds are order statistics, which any increasing change leaves alone.
    sets = rng.random((repetitions, held_out))
    rejected = 1.0 - np.array([threshold(scores, rate) for scores in sets])
    k = int((held_out + 1) * rate + 1e-9)
    expected = k / (held_out + 1)
    error = np.sqrt(expected * (1 - expected) / (held_out + 2) / repetitions)
    assert expected <= rate
    assert abs(rejected.mean() - expected) < 5 * error


def test_ties_only_lower_the_rate() -> None:
    rng = np.random.default_rng(8)
    sets = rng.integers(0, 6, (4000, 50)).astype(np.float64)
    new = rng.integers(0, 6, 4000)
    rejects = np.array([part > threshold(scores, 0.1) for scores, part in zip(sets, new, strict=True)])
    assert rejects.mean() < 0.1 + 5 * np.sqrt(0.1 * 0.9 / 4000)


def test_threshold_is_the_order_statistic_of_the_paper() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    assert threshold(scores, 0.01) == 99.0
    assert threshold(scores, 0.05) == 95.0
    assert threshold(scores, 0.055) == 95.0
    assert threshold(scores, 0.999) == 1.0


@pytest.mark.parametrize("held_out", [1, 2, 9, 19, 48, 99, 149, 150, 997])
def test_smallest_attainable_rate_is_attained_by_the_largest_score(held_out: int) -> None:
    scores = np.random.default_rng(1).random(held_out)
    assert threshold(scores, attainable_rate(held_out)) == scores.max()
    with pytest.raises(ScoringError):
        threshold(scores, 0.999 * attainable_rate(held_out))


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.03, 33), (0.001, 999), (0.5, 1)])
def test_images_needed_are_enough_and_no_more_than_enough(rate: float, needed: int) -> None:
    assert images_needed(rate) == needed
    threshold(np.arange(float(needed)), rate)
    if needed > 1:
        with pytest.raises(ScoringError, match=f"at least {needed} held-out good images"):
            threshold(np.arange(float(needed - 1)), rate)


@pytest.mark.parametrize("held_out", [2, 12, 60, 98, 150, 700])
def test_the_rate_that_an_error_advises_works(held_out: int) -> None:
    scores = np.arange(float(held_out))
    with pytest.raises(ScoringError) as caught:
        threshold(scores, 1e-5)
    found = re.search(r"ask for ([\d.]+\d) or more", str(caught.value))
    assert found
    assert threshold(scores, float(found.group(1))) == scores.max()


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_rates_outside_0_and_1_are_refused(rate: float) -> None:
    with pytest.raises(ScoringError, match="between 0 and 1"):
        threshold(np.arange(50.0), rate)


def test_no_scores_give_no_threshold() -> None:
    with pytest.raises(ScoringError, match="there are 0"):
        threshold(np.array([]), 0.5)


def test_p_value_counts_the_scores_that_are_as_high() -> None:
    scores = np.array([1.0, 2.0, 2.0, 3.0])
    assert [p_value(scores, s) for s in (0.0, 1.0, 2.0, 2.5, 3.0, 3.1)] == [1.0, 1.0, 0.8, 0.4, 0.4, 0.2]


def test_p_values_of_good_parts_are_uniform() -> None:
    rng = np.random.default_rng(9)
    sets = np.sort(rng.random((20_000, 30)), axis=1)
    values = np.array([p_value(scores, part) for scores, part in zip(sets, rng.random(20_000), strict=True)])
    for rate in (1 / 31, 3 / 31, 0.1, 0.5):
        promised = np.floor(31 * rate + 1e-9) / 31
        bound = 5 * np.sqrt(promised * (1 - promised) / len(values))
        assert abs((values <= rate + 1e-9).mean() - promised) < bound


def test_verdict_and_p_value_agree() -> None:
    rng = np.random.default_rng(10)
    for _ in range(200):
        scores = np.sort(rng.random(37))
        limit = threshold(scores, 0.1)
        for part in (*rng.random(5), limit, *scores[-5:]):
            assert (part > limit) == (p_value(scores, part) <= 0.1)
