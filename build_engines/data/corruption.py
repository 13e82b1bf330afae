"""Defects on photographs of good parts: scratches, ellipses, blots and patches with what does not belong there.

Cut-and-paste defects (CutPaste, Li et al. 2021, arXiv 2104.04015) and noise-shaped ones (DRAEM, Zavrtanik et al. 2021,
arXiv 2108.07610) look little like real ones, but they drive the network where good images never do.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from build_engines.data import synthetic_drawing as draw
from build_engines.data.synthetic_drawing import Field

Image = NDArray[np.uint8]
# Redrawn below these: a paste of even ground onto even ground shows nothing, nor does a speck.
_FAINTEST = 12.0  # grey levels, mean over the defect
_SMALLEST = 0.001  # share of the picture
_TRIES = 16


def corrupt(image: Image, other: Image, generator: np.random.Generator) -> Image:
    """A copy of a good picture with one to three defects; shapes scale with the picture.

    Args:
        image: uint8 [H, W, 3].
        other: uint8 [H, W, 3], a good picture that defects may take content from; may be `image` itself.

    Returns:
        uint8 [H, W, 3], changed visibly on some 0.05 to 15 % of its area, and nowhere else.
    """
    corrupted = image
    for _ in range(int(generator.integers(1, 4))):
        corrupted = _with_defect(corrupted, other, generator)
    return corrupted


def _with_defect(image: Image, other: Image, generator: np.random.Generator) -> Image:
    height, width, _ = image.shape
    strongest, changed = -1.0, image
    for _ in range(_TRIES):
        mask = _SHAPES[generator.integers(len(_SHAPES))](generator, max(height, width))[:height, :width]
        filling = _FILLINGS[generator.integers(len(_FILLINGS))](generator, image, other)
        opacity = np.float32(generator.uniform(0.6, 1.0))
        where = np.nonzero(mask)
        if len(where[0]) < _SMALLEST * mask.size:
            continue
        before, share = image[where].astype(np.float32), mask[where][:, None] * opacity
        after = np.rint(before + (filling[where] - before) * share)
        strength = float(np.abs(after - before).mean())
        if strength > strongest:
            strongest, changed = strength, image.copy()
            changed[where] = after.astype(np.uint8)
        if strongest >= _FAINTEST:
            break
    return changed


def _scratch(generator: np.random.Generator, size: int) -> Field:
    """One to three bent strokes, of a tenth to half of the side."""
    length, turn = generator.uniform(0.2, 1.0), generator.uniform(0, 2 * np.pi)
    lines = []
    for _ in range(int(generator.integers(1, 4))):
        angles = turn + generator.uniform(-0.3, 0.3) + np.cumsum(generator.normal(0, 0.25, 12))
        steps = np.stack([np.cos(angles), np.sin(angles)], 1) * (length / 12)
        lines.append(_somewhere(generator) + np.cumsum(steps, axis=0) - steps.sum(0) / 2)
    return draw.strokes(size, lines, generator.uniform(0.008, 0.03))


def _ellipse(generator: np.random.Generator, size: int) -> Field:
    """One ellipse of a fiftieth to a quarter of the side, with a sharp or a soft border."""
    turns, tilt = np.linspace(0, 2 * np.pi, 48, endpoint=False), generator.uniform(0, np.pi)
    radii = np.exp(generator.uniform(np.log(0.02), np.log(0.25), 2))
    x, y = radii[0] * np.cos(turns), radii[1] * np.sin(turns)
    outline = np.stack([x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)], 1)
    mask = draw.polygon(size, outline + _somewhere(generator))
    return draw.rounded(mask, generator.uniform(2.0, 6.0)) if generator.random() < 0.5 else mask


def _box(generator: np.random.Generator, size: int) -> Field:
    """One upright patch, from square to a strip."""
    area, aspect = np.exp(generator.uniform(np.log(0.004), np.log(0.12))), np.exp(generator.uniform(-1.2, 1.2))
    return draw.boxes(size, _somewhere(generator), float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect)))


def _blot(generator: np.random.Generator, size: int) -> Field:
    """Ragged islands: smooth noise cut off at a height, around one place."""
    x, y = draw.coordinates(size)
    column, row = _somewhere(generator)
    radius = generator.uniform(0.1, 0.35)
    near = 1.0 - np.hypot(x - np.float32(column), y - np.float32(row)) / np.float32(radius)
    field = draw.cloud(generator, size, int(generator.integers(8, 33)))
    return np.asarray(np.clip((field + near - 0.6) * 8.0, 0.0, 1.0) * (near > 0), np.float32)


def _moved(generator: np.random.Generator, image: Image, other: Image) -> Image:
    """The same picture, shifted and perhaps mirrored: content from elsewhere."""
    return _shifted(generator, image)


def _foreign(generator: np.random.Generator, image: Image, other: Image) -> Image:
    return _shifted(generator, other)


def _plain(generator: np.random.Generator, image: Image, other: Image) -> Field:
    """An even colour: any, or near black or white."""
    colour = generator.uniform(0, 255, 3) if generator.random() < 0.5 else generator.choice([15.0, 240.0])
    return np.broadcast_to(np.asarray(colour, np.float32), image.shape)


def _noisy(generator: np.random.Generator, image: Image, other: Image) -> Field:
    """Grey or coloured noise of some grain size around a random brightness."""
    height, width, _ = image.shape
    cells, channels = int(generator.integers(1, 7)), int(generator.choice([1, 3]))
    coarse = generator.standard_normal((-(-height // cells), -(-width // cells), channels), np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST).reshape(height, width, channels)
    noise = generator.uniform(60, 200) + fine * np.float32(generator.uniform(20, 60))
    return np.broadcast_to(np.clip(noise, 0, 255), image.shape)


def _shifted(generator: np.random.Generator, image: Image) -> Image:
    height, width, _ = image.shape
    by = (int(generator.integers(height // 8, height - height // 8)), int(generator.integers(width)))
    moved = np.roll(image, by, axis=(0, 1))
    return moved[:, ::-1] if generator.random() < 0.5 else moved


def _somewhere(generator: np.random.Generator) -> NDArray[np.float64]:
    return generator.uniform(-0.8, 0.8, 2)


_SHAPES: tuple[Callable[[np.random.Generator, int], Field], ...] = (_scratch, _ellipse, _box, _blot)
_FILLINGS: tuple[Callable[[np.random.Generator, Image, Image], Image | Field], ...] = (_moved, _foreign, _plain, _noisy)
