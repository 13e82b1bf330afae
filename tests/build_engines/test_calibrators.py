"""Ranges of distributions whose best range is known."""

import numpy as np
import pytest

from build_engines.quantization.calibrators import CALIBRATORS, entropy, minmax, mse, percentile
from build_engines.quantization.histogram import BINS, Histogram
from build_engines.quantization.integers import largest_integer
from engines.errors import GraphError


def histogram(*batches: np.ndarray) -> Histogram:
    seen = Histogram()
    for batch in batches:
        seen.observe(batch.astype(np.float32))
    return seen


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 64, 32, 32), np.float32)


def squared_error(values: np.ndarray, limit: float, most: int) -> float:
    step = limit / most
    return float(np.square(values - step * np.clip(np.rint(values / step), -most, most)).mean())


def test_histogram_counts_every_value_while_its_range_grows(gaussian: np.ndarray) -> None:
    batches = [batch * scale for batch, scale in zip(gaussian, (1, 3, 0.1, 20, 2, 1, 1, 1), strict=True)]
    seen = histogram(*batches)
    values = np.abs(np.concatenate([batch.ravel() for batch in batches]))
    assert seen.counts.sum() + seen.zeros == values.size
    assert seen.largest == values.max()
    assert BINS // 2 - 1 <= seen.in_use <= BINS
    below = np.concatenate([[0], np.cumsum(seen.counts)])
    shifted = [np.searchsorted(np.sort(values), seen.edges + side * seen.width) for side in (-0.01, 0.01)]
    assert np.all(shifted[0] <= below)
    assert np.all(below <= shifted[1])


def test_zeros_are_counted_apart() -> None:
    seen = histogram(np.array([0.0, 0.0, -0.0, 1e-9, 2.0]), np.zeros(5))
    assert seen.zeros == 8
    assert seen.counts[0] == 1
    assert seen.counts.sum() == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(GraphError, match="no finite number"):
        histogram(np.array([1.0, value]))


def test_minmax_keeps_the_largest_magnitude() -> None:
    assert minmax(histogram(np.array([0.5, -3.0]), np.array([2.0, 1.0])), 127) == 3.0


def test_percentile_is_exact_within_a_bin(gaussian: np.ndarray) -> None:
    seen = histogram(*gaussian)
    for share in (50.0, 99.0, 99.99):
        exact = np.quantile(np.abs(gaussian), share / 100)
        assert abs(percentile(seen, 127, share) - exact) < 2 * seen.width


def test_percentile_counts_zeros(gaussian: np.ndarray) -> None:
    relu = np.maximum(gaussian, 0)
    assert abs(percentile(histogram(*relu), 127) - np.quantile(relu, 0.9999)) < 0.02


@pytest.mark.parametrize(("bits", "low", "high"), [(8, 3.7, 4.1), (6, 3.1, 3.4), (4, 2.3, 2.6)])
def test_mse_finds_the_loading_of_a_gaussian(gaussian: np.ndarray, bits: int, low: float, high: float) -> None:
    """3.92 and 2.55 standard deviations at 8 and 4 bits (ACIQ, Banner et al. 2019, arXiv 1810.05723)."""
    most = largest_integer(bits)
    found = mse(histogram(*gaussian), most)
    assert low < found < high
    error = squared_error(gaussian, found, most)
    assert error <= 1.01 * min(squared_error(gaussian, limit, most) for limit in np.linspace(1.5, 5.5, 41))


def test_heavier_tails_get_a_wider_range() -> None:
    """9.89 and 5.03 scales of a Laplace distribution at 8 and 4 bits (ACIQ again)."""
    seen = histogram(np.random.default_rng(0).laplace(size=500_000))
    assert 9 < mse(seen, 127) < 10.8
    assert 4.4 < mse(seen, 7) < 5.4


@pytest.mark.parametrize("calibrator", ["entropy", "mse"])
def test_zeros_of_a_relu_change_no_range(gaussian: np.ndarray, calibrator: str) -> None:
    """With them in the histogram's first bin, KL took a range of a twentieth, and accuracy was lost."""
    magnitudes = np.abs(gaussian[:4])
    alone = CALIBRATORS[calibrator](histogram(*magnitudes), 127)
    seen = histogram(*magnitudes, *(np.zeros_like(gaussian) for _ in range(5)))
    assert seen.zeros > 0.9 * (seen.zeros + seen.counts.sum())
    assert CALIBRATORS[calibrator](seen, 127) == alone
    assert alone > 3


def test_entropy_cuts_an_outlier_off(gaussian: np.ndarray) -> None:
    seen = histogram(*gaussian, np.array([40.0]))
    assert 3.0 < entropy(seen, 127) < 8.0
    assert minmax(seen, 127) == 40.0


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("bits", [8, 4])
def test_no_range_exceeds_what_was_seen(gaussian: np.ndarray, calibrator: str, bits: int) -> None:
    most = largest_integer(bits)
    for values in (gaussian, np.zeros(4), np.full(3, 5.0), np.array([1e-30])):
        seen = histogram(values)
        found = CALIBRATORS[calibrator](seen, most)
        assert 0 <= found <= seen.largest
        assert (found > 0) == (seen.largest > 0)
