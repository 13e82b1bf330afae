"""Thresholds of part classes."""

import re

import numpy as np
import pytest

from build_engines.part_classes import review_of
from engines.conformal import p_value, threshold
from engines.errors import ScoringError


@pytest.mark.parametrize(("held_out", "fail", "review"), [(99, 0.01, 0.05), (60, 0.05, 0.2), (6, 1 / 7, 0.3)])
def test_both_thresholds_cut_the_p_values_at_their_rates(held_out: int, fail: float, review: float) -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random(held_out))
    second = review_of(scores, fail, review)
    assert second is not None
    seen = set()
    for score in (*rng.random(500), *scores):
        p = p_value(scores, score)
        verdict = "fail" if score > threshold(scores, fail) else "review" if score > second.threshold else "pass"
        assert verdict == ("fail" if p <= fail + 1e-9 else "review" if p <= review + 1e-9 else "pass")
        seen.add(verdict)
    assert seen == {"pass", "review", "fail"}


def test_no_rate_gives_no_second_threshold() -> None:
    assert review_of(np.arange(20.0), 0.05, None) is None


@pytest.mark.parametrize("held_out", [12, 60, 99, 700])
def test_the_review_rate_that_an_error_advises_works(held_out: int) -> None:
    scores = np.arange(float(held_out))
    rate = 1 / (held_out + 1)
    with pytest.raises(ScoringError) as caught:
        review_of(scores, rate, rate)
    found = re.search(r"ask for ([\d.]+\d) or more", str(caught.value))
    assert found
    second = review_of(scores, rate, float(found.group(1)))
    assert second is not None
    assert second.threshold < threshold(scores, rate)
