"""Weights as integers of 8, 6 and 4 bits."""

import numpy as np
import pytest

from build_engines.quantization.integers import BITS, largest_integer, weight_integers


@pytest.fixture
def weights() -> np.ndarray:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((16, 32, 3, 3)).astype(np.float32)
    return values * np.exp(generator.normal(0, 2, (16, 1, 1, 1))).astype(np.float32)


def error(weights: np.ndarray, integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Per channel, relative."""
    difference = integers * scales.reshape(-1, 1, 1, 1) - weights
    return np.asarray(np.square(difference).sum((1, 2, 3)) / np.square(weights).sum((1, 2, 3)))


@pytest.mark.parametrize("bits", BITS)
def test_integers_fill_their_range_and_nothing_more(weights: np.ndarray, bits: int) -> None:
    integers, scales = weight_integers(weights, bits)
    assert integers.dtype == np.int8
    assert scales.dtype == np.float32
    assert scales.shape == (16,)
    np.testing.assert_array_equal(np.abs(integers).max((1, 2, 3)), largest_integer(bits))
    # Two bits fewer are four times the step: twelve decibels.
    assert np.all(error(weights, integers, scales) < 0.03 * 4.0 ** (4 - bits))


def test_below_eight_bits_clipping_beats_the_largest_weight(weights: np.ndarray) -> None:
    integers, scales = weight_integers(weights, 4)
    full = np.abs(weights).max((1, 2, 3)) / 7
    plain = np.rint(weights / full.reshape(-1, 1, 1, 1))
    assert error(weights, integers, scales).mean() < 0.9 * error(weights, plain, full).mean()
    assert np.all(error(weights, integers, scales) <= error(weights, plain, full) * 1.0001)


def test_eight_bits_clip_nothing(weights: np.ndarray) -> None:
    _, scales = weight_integers(weights, 8)
    np.testing.assert_allclose(scales * 127, np.abs(weights).max((1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_a_dead_channel_has_a_scale(bits: int) -> None:
    integers, scales = weight_integers(np.zeros((2, 3, 1, 1), np.float32), bits)
    assert not integers.any()
    assert np.all(scales > 0)
