"""Calibration images from every source: how many, what they hold, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from build_engines import run
from build_engines.errors import DataError
from build_engines.networks.normalize import IMAGENET_MEAN, IMAGENET_STD
from build_engines.quantization.calibration_images import SOURCES, calibration_images
from build_engines.split_images import SplitImages
from engines.bundle import Tiling


@pytest.fixture(scope="module")
def images(run_folder: Path) -> SplitImages:
    return SplitImages.read(run.load(run_folder))


def is_among(picture: np.ndarray, pool: np.ndarray) -> bool:
    return bool((picture == pool).all(axis=(1, 2, 3)).any())


@pytest.mark.parametrize("source", SOURCES)
def test_as_many_as_asked_and_the_same_each_time(images: SplitImages, source: str) -> None:
    first, second, other = (calibration_images(source, 12, images, seed) for seed in (0, 0, 1))
    assert first.shape == (12, 128, 128, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("source", "count"), [("train", 48), ("random-normal", 128), ("train+noise", 96), ("synthetic-anomaly", 48)]
)
def test_default_is_all_there_are_up_to_128(images: SplitImages, source: str, count: int) -> None:
    assert len(calibration_images(source, None, images, 0)) == count


def test_train_takes_training_images_of_all_classes_evenly(images: SplitImages) -> None:
    drawn = calibration_images("train", 12, images, 0)
    counts = [sum(is_among(picture, pool) for picture in drawn) for pool in images.train.values()]
    assert counts == [6, 6]


def test_noise_is_standard_normal_to_the_network(images: SplitImages) -> None:
    noise = calibration_images("random-normal", 8, images, 0)
    normalized = (noise / 255 - IMAGENET_MEAN) / IMAGENET_STD
    inside = (noise > 0) & (noise < 255)
    # Of a normal distribution, what pixels can show is from about -2.1 to 2.3 standard deviations.
    assert abs(float(np.median(normalized))) < 0.02
    assert 0.9 < normalized.std() < 1.0
    assert 0.95 < inside.mean() < 0.99
    neighbours = np.corrcoef(normalized[:, :, 1:].ravel(), normalized[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.01


def test_half_of_a_mixture_is_noise(images: SplitImages) -> None:
    mixed = calibration_images("train+noise", 7, images, 0)
    good = np.concatenate(list(images.train.values()))
    assert [is_among(picture, good) for picture in mixed] == [True] * 4 + [False] * 3


def test_synthetic_anomalies_are_good_images_but_for_their_defects(images: SplitImages) -> None:
    good, bad = (calibration_images(source, 12, images, 0) for source in ("train", "synthetic-anomaly"))
    changed = (good != bad).any(axis=3).mean(axis=(1, 2))
    assert np.all((changed > 0) & (changed < 0.3))


def test_folder_is_searched_with_its_subfolders(images: SplitImages, parts_folder: Path) -> None:
    drawn = calibration_images(str(parts_folder), 20, images, 0)
    assert drawn.shape == (20, 128, 128, 3)
    everything = calibration_images(str(parts_folder), None, images, 0)
    assert len(everything) == min(128, len(list(parts_folder.rglob("*.png"))))
    assert is_among(drawn[0], everything)


def test_folder_without_images(images: SplitImages, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear")
    with pytest.raises(DataError, match="holds no images"):
        calibration_images(str(tmp_path), None, images, 0)


def test_fewer_images_than_asked(images: SplitImages, parts_folder: Path, tmp_path: Path) -> None:
    for source in ("train", "synthetic-anomaly"):
        with pytest.raises(DataError, match="asks for 49 training images and the run has 48"):
            calibration_images(source, 49, images, 0)
    shutil.copy(next(parts_folder.rglob("*.png")), tmp_path / "one.PNG")
    with pytest.raises(DataError, match=r"asks for 2 images and .* has 1; ask for fewer"):
        calibration_images(str(tmp_path), 2, images, 0)


def test_broken_picture_in_a_folder_is_named(images: SplitImages, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(DataError, match=r"torn\.png"):
        calibration_images(str(tmp_path), None, images, 0)


@pytest.mark.parametrize("source", [*SOURCES, "folder"])
def test_a_network_of_tiles_is_calibrated_on_tiles(images: SplitImages, parts_folder: Path, source: str) -> None:
    grid = Tiling(height=128, width=128, overlap=16).grid(64, 64)
    tiled = SplitImages(images.pixels, images.train, images.held_out, grid)
    drawn = calibration_images(str(parts_folder) if source == "folder" else source, 6, tiled, 0)
    assert drawn.shape == (6, 64, 64, 3)
