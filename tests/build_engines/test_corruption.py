"""Artificial defects: visible, small, the same from the same seed, and nothing else changed."""

import numpy as np
import pytest

from build_engines.data.corruption import corrupt
from build_engines.data.folder import read_images


@pytest.fixture(scope="module")
def good(parts_folder: object) -> np.ndarray:
    paths = sorted(parts_folder.glob("*/train/good/*.png"))[::6]  # type: ignore[attr-defined]
    return read_images(paths, 128, 128, "good images")


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(before.astype(int) - after).max(axis=2))


def test_defects_are_visible_and_small(good: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    shares = []
    for number in range(200):
        image, other = (good[int(generator.integers(len(good)))] for _ in range(2))
        kept = image.copy()
        corrupted = corrupt(image, other, generator)
        np.testing.assert_array_equal(image, kept)
        assert corrupted.shape == image.shape
        assert corrupted.dtype == np.uint8
        difference = changed(image, corrupted)
        assert difference.max() > 10, number
        shares.append(float((difference > 0).mean()))
    assert min(shares) > 0.0002
    assert max(shares) < 0.25
    assert 0.005 < np.median(shares) < 0.1


def test_same_seed_same_defects(good: np.ndarray) -> None:
    first, second, third = (corrupt(good[0], good[1], np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, second)
    assert changed(first, third).any()


def test_shapes_scale_with_the_picture() -> None:
    """The same defects on a picture of four times the side cover like shares."""
    generator = np.random.default_rng(1)
    small, large = (generator.integers(0, 256, (size, size, 3), dtype=np.uint8) for size in (64, 256))
    shares = [
        np.mean([(changed(image, corrupt(image, image, np.random.default_rng(seed))) > 0).mean() for seed in range(60)])
        for image in (small, large)
    ]
    assert 0.6 < shares[0] / shares[1] < 1.7


def test_pictures_need_not_be_square() -> None:
    generator = np.random.default_rng(2)
    image = generator.integers(0, 256, (96, 160, 3), dtype=np.uint8)
    for _ in range(20):
        corrupted = corrupt(image, image, generator)
        assert corrupted.shape == (96, 160, 3)
        assert changed(image, corrupted).any()
