"""The picture of a part class's scores."""

from collections import Counter

import pytest

from service.distribution import STEPS, STEPS_PER_THRESHOLD
from service.histogram import BAR_WIDTH, HEIGHT, WIDTH, histogram_of


def test_bars_stand_where_their_scores_are_and_stay_inside() -> None:
    steps = Counter({("pass", 3): 900, ("pass", 18): 7, ("fail", STEPS - 1): 1})
    histogram = histogram_of(steps, None)
    assert [(bar.verdict, bar.count, bar.x) for bar in histogram.bars] == [
        ("pass", 900, 3 * BAR_WIDTH),
        ("pass", 7, 18 * BAR_WIDTH),
        ("fail", 1, WIDTH - BAR_WIDTH),
    ]
    tallest, middle, one = histogram.bars
    assert (tallest.y, tallest.height) == (0.0, HEIGHT)
    assert HEIGHT > middle.height > one.height > 0.05 * HEIGHT
    assert all(bar.y + bar.height == pytest.approx(HEIGHT) for bar in histogram.bars)


def test_a_bar_of_two_verdicts_is_divided_between_them() -> None:
    histogram = histogram_of(Counter({("pass", 17): 30, ("review", 17): 10}), 0.87)
    passed, review = histogram.bars
    assert (passed.verdict, review.verdict) == ("pass", "review")
    assert passed.height == pytest.approx(3 * review.height)
    assert review.y + review.height == pytest.approx(passed.y)
    assert review.y == pytest.approx(0.0)


def test_a_level_is_where_a_bar_of_so_many_ends() -> None:
    histogram = histogram_of(Counter({("pass", 1): 250, ("pass", 2): 100, ("pass", 3): 1}), None)
    assert [line.count for line in histogram.lines] == [1, 10, 100]
    tops = {bar.count: bar.y for bar in histogram.bars}
    assert histogram.lines[0].y == pytest.approx(tops[1])
    assert histogram.lines[2].y == pytest.approx(tops[100])


def test_the_thresholds_lie_at_their_scores() -> None:
    histogram = histogram_of(Counter({("pass", 0): 1}), 0.5)
    assert histogram.threshold_x == STEPS_PER_THRESHOLD * BAR_WIDTH == WIDTH / 2
    assert histogram.review_x == WIDTH / 4
    assert histogram_of(Counter({("pass", 0): 1}), None).review_x is None
