"""Bootstrap and correlation against their definitions, done the slow way."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from build_engines.study.statistics import Bootstrap, ClassScores, auroc, mean_auroc, spearman_over_classes


def drawn(seed: int, separation: float, good: int = 30, bad: int = 40, levels: int | None = None) -> ClassScores:
    generator = np.random.default_rng(seed)
    defective = generator.permutation(np.arange(good + bad) >= good)
    scores = generator.normal(size=good + bad) + separation * defective
    return ClassScores(defective, np.round(scores * levels) / levels if levels else scores)


@pytest.mark.parametrize("levels", [None, 2])
def test_auroc_is_the_area_under_the_curve(levels: int | None) -> None:
    found = drawn(0, 1.0, levels=levels)
    assert auroc(found) == pytest.approx(roc_auc_score(found.defective, found.scores))


def test_a_resample_is_the_auroc_of_the_pictures_drawn() -> None:
    found = drawn(1, 0.8, levels=4)
    bootstrap = Bootstrap({"a": found.defective}, resamples=20, seed=3)
    bad, good = bootstrap._counts["a"]
    for number, draw in enumerate(bootstrap.auroc("a", found)):
        repeats = np.zeros(len(found.scores), int)
        repeats[found.defective], repeats[~found.defective] = bad[number], good[number]
        expected = roc_auc_score(np.repeat(found.defective, repeats), np.repeat(found.scores, repeats))
        assert draw == pytest.approx(expected)


def test_resamples_keep_the_strata() -> None:
    found = drawn(1, 0.8)
    bad, good = Bootstrap({"a": found.defective}, resamples=50)._counts["a"]
    assert set(bad.sum(1)) == {40.0}
    assert set(good.sum(1)) == {30.0}


def test_an_engine_does_not_differ_from_itself() -> None:
    scores = {"a": drawn(0, 1.0), "b": drawn(1, 0.5)}
    found = Bootstrap({name: one.defective for name, one in scores.items()}).difference((scores, scores))
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_paired_differences_are_narrower_than_single_figures() -> None:
    first = {"a": drawn(0, 1.0)}
    second = {
        "a": ClassScores(first["a"].defective, first["a"].scores + np.random.default_rng(5).normal(size=70) * 0.05)
    }
    bootstrap = Bootstrap({"a": first["a"].defective})
    gain, alone = bootstrap.difference((first, second)), bootstrap.mean(first)
    assert gain.high - gain.low < (alone.high - alone.low) / 4
    assert gain.estimate == pytest.approx(mean_auroc(first) - mean_auroc(second))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # AUROC of unit normals 1 apart is Phi(1 / sqrt 2).
    truth, held = 0.7602, 0
    for seed in range(200):
        found = {"a": drawn(seed, 1.0, good=60, bad=80)}
        interval = Bootstrap({"a": found["a"].defective}, resamples=400, seed=seed).mean(found)
        held += interval.low <= truth <= interval.high
    assert 180 <= held <= 199


def test_a_real_gain_excludes_zero_and_none_does_not() -> None:
    defective = drawn(0, 0).defective
    noise = np.random.default_rng(0).normal(size=70)
    weak, strong = ({"a": ClassScores(defective, noise + gain * defective)} for gain in (0.3, 1.5))
    other = {"a": ClassScores(defective, np.random.default_rng(9).normal(size=70) + 0.3 * defective)}
    bootstrap = Bootstrap({"a": defective})
    assert bootstrap.difference((strong, weak)).low > 0
    assert bootstrap.difference((weak, other)).includes_zero


def test_several_pairs_give_their_mean() -> None:
    defective = drawn(0, 0).defective
    first, second, base = (
        {"a": ClassScores(defective, drawn(seed, 0).scores + seed * defective)} for seed in (2, 1, 0)
    )
    bootstrap = Bootstrap({"a": defective})
    singles = [bootstrap.difference((one, base)) for one in (first, second)]
    both = bootstrap.difference((first, base), (second, base))
    assert both.estimate == pytest.approx(np.mean([one.estimate for one in singles]))
    assert singles[1].low < both.low < both.estimate < both.high <= max(one.high for one in singles)


def test_correlation_and_its_chance() -> None:
    x = np.array([[1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 3.5, 4.5]])
    found = spearman_over_classes(x, -x)
    assert found is not None
    assert found.rho == pytest.approx(-1.0)
    assert found.p_value == pytest.approx(1 / 24)
    y = np.random.default_rng(0).normal(size=(2, 4))
    other = spearman_over_classes(x, y)
    assert other is not None
    assert other.rho == pytest.approx(spearmanr(x.ravel(), y.ravel()).statistic)
    assert 1 / 24 < other.p_value <= 1
    rising = spearman_over_classes(x, x)
    assert rising is not None
    assert rising.p_value == 1.0


def test_many_classes_are_shuffled_at_random() -> None:
    x = np.arange(10.0)[None]
    found = spearman_over_classes(x, -x)
    assert found is not None
    assert 0 < found.p_value < 0.01


def test_no_correlation_without_variation() -> None:
    assert spearman_over_classes(np.ones((2, 3)), np.arange(6.0).reshape(2, 3)) is None
