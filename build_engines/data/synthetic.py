"""Synthetic parts with known defects, in MVTec AD layout: data for the demo and the tests, from a seed alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from build_engines.data import synthetic_drawing as draw
from build_engines.data.synthetic_defects import DAMAGES
from build_engines.data.synthetic_drawing import Artwork, Field
from build_engines.data.synthetic_parts import PARTS
from build_engines.errors import DataError
from engines.files import folder_atomic

MISSING = "missing_feature"
DEFECTS = (*DAMAGES, MISSING)
# Drawn larger and shrunk: borders as smooth as a lens makes them.
_OVERSAMPLING = 1.5
# A change smaller than this is lost in the sensor's noise, and is not part of the mask.
_VISIBLE = 0.03
_SMALLEST_SIZE = 64


@dataclass(frozen=True, slots=True)
class _Item:
    """One picture to draw; `defect` is None for a good part."""

    part: str
    defect: str | None
    key: tuple[int, int, int, int]
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class _Camera:
    """Where the part lies (pixels, radians), how it is lit and exposed, drawn once for a picture."""

    shift: tuple[float, float]
    turn: float
    light: float
    exposure: float
    fall: tuple[float, float]
    noise: float


def generate(
    out: Path,
    classes: int = 4,
    seed: int = 0,
    train: int = 100,
    test_good: int = 20,
    test_per_defect: int = 8,
    size: int = 256,
) -> None:
    """Write a data folder of synthetic parts, with a progress bar. The same arguments give the same bytes.

    Args:
        out: the folder to make; CLASS/train/good, CLASS/test/good, CLASS/test/DEFECT and CLASS/ground_truth/DEFECT
            with 8-bit masks of 0 and 255, exactly where the defect changes the picture.
        classes: how many part types, 1 to `len(PARTS)`.
        seed: of every picture, >= 0.
        train, test_good: good pictures of a class for training and testing.
        test_per_defect: pictures of each of `DEFECTS`.
        size: side of the square pictures in pixels, 64 at least.

    Raises:
        DataError: `out` exists and is not an empty folder, or a number is out of range. Nothing is written then.
    """
    if not 1 <= classes <= len(PARTS):
        raise DataError(f"There are {len(PARTS)} synthetic part types and {classes} were asked for; ask for 1 or more.")
    if min(train, test_good, test_per_defect, seed) < 0 or size < _SMALLEST_SIZE:
        raise DataError(f"Counts and seed must not be negative and the size at least {_SMALLEST_SIZE} pixels.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder; name a new folder for the synthetic parts.")
    with folder_atomic(out) as folder:
        items = list(_items(folder, classes, seed, train, test_good, test_per_defect))
        for item in track(items, description="synthetic parts"):
            image, mask = render(item.part, item.defect, item.key, size)
            _write(item.image, image[..., ::-1])
            if item.mask is not None:
                _write(item.mask, mask)


def render(
    part: str, defect: str | None, key: tuple[int, ...], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One picture, uint8 [size, size, 3] RGB, and its mask, uint8 [size, size] of 0 and 255.

    Args:
        part: one of `PARTS`.
        defect: one of `DEFECTS`, or None for a good part.
        key: seeds the picture; with the same key a defective part is the good part plus its defect.
        size: side in pixels.
    """
    side = round(size * _OVERSAMPLING)
    camera = _camera(np.random.default_rng([*key, 0]))
    whole = PARTS[part](np.random.default_rng([*key, 1]), side, None)
    clean = _exposed(whole, camera, size)
    rng = np.random.default_rng([*key, 2])
    if defect is None:
        seen = clean
    elif defect == MISSING:
        seen = _exposed(PARTS[part](np.random.default_rng([*key, 1]), side, float(rng.random())), camera, size)
    else:
        DAMAGES[defect](rng, whole)
        seen = _exposed(whole, camera, size)
    change = cv2.absdiff(seen, clean)
    mask = (np.maximum.reduce(cv2.split(change)) > _VISIBLE).astype(np.uint8) * np.uint8(255)
    return _sensed(seen, camera, np.random.default_rng([*key, 3])), mask


def _items(root: Path, classes: int, seed: int, train: int, test_good: int, test_per_defect: int) -> Iterator[_Item]:
    for number, part in enumerate(list(PARTS)[:classes]):
        folder = root / part
        for index in range(train):
            yield _Item(part, None, (seed, number, 0, index), folder / "train/good" / f"{index:03}.png", None)
        for index in range(test_good):
            yield _Item(part, None, (seed, number, 1, index), folder / "test/good" / f"{index:03}.png", None)
        for split, defect in enumerate(DEFECTS, start=2):
            for index in range(test_per_defect):
                mask = folder / "ground_truth" / defect / f"{index:03}_mask.png"
                image = folder / "test" / defect / f"{index:03}.png"
                yield _Item(part, defect, (seed, number, split, index), image, mask)


def _camera(rng: np.random.Generator) -> _Camera:
    return _Camera(
        shift=(float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.02, 0.02))),
        turn=float(rng.normal(0, 0.03)),
        light=float(-2.2 + rng.normal(0, 0.05)),
        exposure=float(rng.uniform(0.95, 1.05)),
        fall=(float(rng.normal(-0.12, 0.02)), float(rng.normal(-0.10, 0.02))),
        noise=float(rng.uniform(0.006, 0.010)),
    )


def _exposed(part: Artwork, camera: _Camera, size: int) -> Field:
    """The part in its pose on its ground, lit, with its shadow, before noise: float32 [size, size, 3] in 0..1."""
    side = len(part.height)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), np.degrees(camera.turn), 1.0)
    matrix[:, 2] += np.array(camera.shift) * side
    albedo, height, coverage = (_posed(field, matrix) for field in (part.albedo, part.height, part.coverage))
    surface = draw.lit(albedo, height, part.gloss, camera.light)
    reach = side / 40
    offset = np.array([[1, 0, -np.cos(camera.light) * reach], [0, 1, -np.sin(camera.light) * reach]], np.float32)
    shadow = cv2.blur(cv2.warpAffine(coverage, offset, (side, side)), (int(reach), int(reach)))
    ground = part.ground * (1 - 0.55 * np.asarray(shadow, np.float32))[..., None]
    draw.mix(ground, surface, coverage)
    small = np.asarray(cv2.resize(ground, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    x, y = draw.coordinates(size)
    light = camera.exposure * (1 + camera.fall[0] * x + camera.fall[1] * y - 0.06 * (x * x + y * y))
    return np.asarray(cv2.pow(np.clip(small * light[..., None], 0.0, 1.0), 0.8), np.float32)


def _posed(field: Field, matrix: NDArray[np.float64]) -> Field:
    side = len(field)
    return np.asarray(cv2.warpAffine(field, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101), np.float32)


def _sensed(image: Field, camera: _Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    # Photon noise grows with the root of the light; a Bayer sensor's reconstruction smears it over neighbours.
    noise = cv2.GaussianBlur(rng.standard_normal(image.shape, np.float32), (0, 0), 0.6)
    noisy = image + np.asarray(noise, np.float32) * np.sqrt(image + 0.05) * np.float32(3.0 * camera.noise)
    return np.clip(noisy * 255.0 + 0.5, 0, 255).astype(np.uint8)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    path.write_bytes(encoded.tobytes())
