"""The drift test keeps its promise of few false alarms, and is quick where production changes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.bundle import PartClass, Review
from engines.conformal import p_value, threshold
from service.drift import ALARM, DriftTest

RATE = 0.05


def part_class(scores: NDArray[np.floating], review: float | None = None) -> PartClass:
    limit = threshold(scores, RATE)
    return PartClass(
        name="gear",
        centroid=[0.0],
        max_distance=1.0,
        good_scores=np.sort(scores).tolist(),
        false_reject_rate=RATE,
        threshold=limit,
        pixel_threshold=limit,
        review=None if review is None else Review(rate=review, threshold=threshold(scores, review)),
    )


def passed(part: PartClass, scores: NDArray[np.floating]) -> list[float]:
    """The p-values of the parts that pass."""
    good = np.array(part.good_scores)
    return [p_value(good, score) for score in scores if score <= part.pass_limit]


def alarm_after(test: DriftTest, p_values: list[float]) -> int | None:
    """How many parts pass before the alarm; None where there is none."""
    for count, p in enumerate(p_values, 1):
        test.observe(p)
        if test.drifting:
            return count
    return None


def scores_of(rng: np.random.Generator, count: int, shift: float = 0.0, scale: float = 1.0) -> NDArray[np.float32]:
    return rng.normal(shift, scale, count).astype(np.float32)


@pytest.mark.parametrize("review", [None, 0.2])
@pytest.mark.parametrize("held_out", [20, 60, 300])
def test_production_as_in_training_raises_no_alarm(held_out: int, review: float | None) -> None:
    """By Doob's inequality an alarm within T parts has a probability of at most T / 10 ** ALARM, 0.3 % here.

    A test against the uniform distribution alarms in some of them, for few good scores are not the whole truth.
    """
    rng = np.random.default_rng(held_out)
    for _ in range(10):
        part = part_class(scores_of(rng, held_out), review)
        assert alarm_after(DriftTest(part), passed(part, scores_of(rng, 3000))) is None


@pytest.mark.parametrize(
    ("shift", "scale", "direction", "most"),
    [(0.5, 1.0, "higher", 500), (1.0, 1.0, "higher", 120), (-0.5, 1.0, "lower", 400), (-1.0, 1.0, "lower", 100)],
)
def test_a_change_is_noticed_soon(shift: float, scale: float, direction: str, most: int) -> None:
    rng = np.random.default_rng(1)
    delays = []
    for _ in range(9):
        part = part_class(scores_of(rng, 200))
        test = DriftTest(part)
        assert alarm_after(test, passed(part, scores_of(rng, 1000))) is None
        assert test.direction is None
        delay = alarm_after(test, passed(part, scores_of(rng, 3000, shift, scale)))
        assert delay is not None
        assert test.direction == direction
        delays.append(delay)
    assert np.median(delays) <= most


def test_a_line_that_differs_from_the_first_part_on_is_noticed() -> None:
    rng = np.random.default_rng(2)
    part = part_class(scores_of(rng, 200))
    delay = alarm_after(DriftTest(part), passed(part, scores_of(rng, 1000, 1.0)))
    assert delay is not None
    assert delay < 150


def test_a_slow_drift_is_noticed_although_the_test_learns() -> None:
    rng = np.random.default_rng(3)
    part = part_class(scores_of(rng, 100))
    ageing = scores_of(rng, 4000) + np.linspace(0.0, -1.5, 4000, dtype=np.float32)
    assert alarm_after(DriftTest(part), passed(part, ageing)) is not None


def test_an_alarm_lasts_while_the_change_does_and_ends_with_it() -> None:
    rng = np.random.default_rng(4)
    part = part_class(scores_of(rng, 100))
    test = DriftTest(part)
    alarm_after(test, passed(part, scores_of(rng, 1000)))
    assert alarm_after(test, passed(part, scores_of(rng, 2000, 1.0))) is not None
    for p in passed(part, scores_of(rng, 5000, 1.0)):
        test.observe(p)
    assert test.drifting
    for p in passed(part, scores_of(rng, 2000)):
        test.observe(p)
    assert not test.drifting
    assert test.direction is None


def test_a_bet_is_fair_whatever_was_seen() -> None:
    """The expected growth of each CUSUM is 1 where the next part falls as the urn says."""
    rng = np.random.default_rng(5)
    part = part_class(scores_of(rng, 30))
    ranks = len(part.good_scores) + 1
    history = passed(part, scores_of(rng, 200, 0.2))
    places = sorted({p for p in (k / ranks for k in range(1, ranks + 1)) if p > RATE + 1e-9})
    seen = {p: 1 + sum(abs(p - other) < 1e-9 for other in history) for p in places}
    growth = np.zeros(6)
    for p, count in seen.items():
        test = DriftTest(part)
        for other in history:
            test.observe(other)
        before = np.maximum(test._cusums, 1.0)
        test.observe(p)
        growth += count / sum(seen.values()) * test._cusums / before
    assert growth == pytest.approx(np.ones(6))


def test_the_statistic_is_zero_at_first_and_bounded() -> None:
    part = part_class(np.linspace(0.0, 1.0, 100, dtype=np.float32))
    test = DriftTest(part)
    assert (test.statistic, test.parts, test.drifting) == (0.0, 0, False)
    for _ in range(3000):
        test.observe(1.0)
    assert ALARM < test.statistic <= 9.0
    assert (test.parts, test.direction) == (3000, "lower")


@pytest.mark.parametrize("p", [0.0, 0.01, 0.04])
def test_a_p_value_that_cannot_pass_is_left_out(p: float) -> None:
    test = DriftTest(part_class(np.linspace(0.0, 1.0, 99, dtype=np.float32)))
    test.observe(p)
    assert test.parts == 0
