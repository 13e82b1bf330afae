"""Where calibration images come from: good images, noise, both, good images with artificial defects, or any folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_engines.data.corruption import corrupt
from build_engines.data.folder import SUFFIXES, read_images
from build_engines.errors import DataError
from build_engines.networks.normalize import IMAGENET_MEAN, IMAGENET_STD
from build_engines.split_images import SplitImages

DEFAULT_COUNT = 128

Images = NDArray[np.uint8]


def calibration_images(source: str, count: int | None, images: SplitImages, seed: int) -> Images:
    """`count` images uint8 [count, h, w, 3] at the network's size.

    Args:
        source: one of `SOURCES`, or a folder that is searched for pictures with all its subfolders.
        count: None for 128, or all where there are fewer.
        images: the good images of the run.
        seed: of the choice and of what is generated.

    Raises:
        DataError: there are fewer, or a folder's pictures cannot be read.
    """
    if source in SOURCES:
        most, draw = SOURCES[source]
        return draw(count or min(DEFAULT_COUNT, most * _available(images)), images, seed)
    return _from_folder(Path(source), count, images, seed)


def is_source(source: str) -> bool:
    """Whether `source` is one of `SOURCES` or a folder."""
    return source in SOURCES or Path(source).is_dir()


def _train(count: int, images: SplitImages, seed: int) -> Images:
    return images.calibration(count, seed)


def _random_normal(count: int, images: SplitImages, seed: int) -> Images:
    """Standard normal noise in the network's normalised space, clipped to what pixels can show: P1's noise set."""
    height, width = _network_size(images)
    generator = np.random.default_rng(seed)
    mean, std = (255 * np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    noise = np.empty((count, height, width, 3), np.uint8)
    for picture in noise:
        picture[...] = np.rint(mean + std * generator.standard_normal(picture.shape, np.float32)).clip(0, 255)
    return noise


def _train_and_noise(count: int, images: SplitImages, seed: int) -> Images:
    half = count // 2
    noise = _random_normal(half, images, seed)
    return np.concatenate([images.calibration(count - half, seed), noise])


def _synthetic_anomaly(count: int, images: SplitImages, seed: int) -> Images:
    """Good training images, each with defects that take content from another of them."""
    good = images.calibration(count, seed)
    generator = np.random.default_rng(seed)
    others = generator.permutation(count)
    return np.stack([corrupt(one, good[other], generator) for one, other in zip(good, others, strict=True)])


# The name, how many images it can give for each that training has, and what draws them.
SOURCES: dict[str, tuple[int, Callable[[int, SplitImages, int], Images]]] = {
    "train": (1, _train),
    "random-normal": (DEFAULT_COUNT, _random_normal),
    "train+noise": (2, _train_and_noise),
    "synthetic-anomaly": (1, _synthetic_anomaly),
}


def _from_folder(folder: Path, count: int | None, images: SplitImages, seed: int) -> Images:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"The calibration folder {folder} holds no images; give a folder with pictures of the parts.")
    if count is not None and count > len(paths):
        raise DataError(f"Calibration asks for {count} images and {folder} has {len(paths)}; ask for fewer.")
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(paths))[: count or DEFAULT_COUNT]
    pixels = read_images([paths[i] for i in chosen], *images.pixels.shape[1:3], "calibration images")
    if images.grid is None:
        return pixels
    return np.stack([images.grid.cut(image, int(generator.integers(len(images.grid)))) for image in pixels])


def _available(images: SplitImages) -> int:
    """How many training images, or tiles of them, there are."""
    return sum(map(len, images.train.values())) * (1 if images.grid is None else len(images.grid))


def _network_size(images: SplitImages) -> tuple[int, int]:
    if images.grid is not None:
        return images.grid.rows.tile, images.grid.columns.tile
    return images.pixels.shape[1], images.pixels.shape[2]
