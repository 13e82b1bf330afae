"""Drawing tools of the synthetic parts: coordinates, smooth noise, outlines with soft borders, light on a relief."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.float32]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Artwork:
    """A part lying straight in the middle of a square, before light and camera.

    Attributes:
        albedo: float32 [S, S, 3] RGB in 0..1.
        height: float32 [S, S], relief in steps of S / 512 pixels.
        coverage: float32 [S, S] in 0..1, where the part is.
        ground: float32 [S, S, 3] RGB in 0..1, what it lies on.
        gloss: strength of highlights, 0 for cloth, about 0.5 for metal.
    """

    albedo: Field
    height: Field
    coverage: Field
    ground: Field
    gloss: float


@lru_cache(maxsize=4)
def coordinates(size: int) -> tuple[Field, Field]:
    """x to the right and y downwards, float32 [size, size], from -1 to 1."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


@lru_cache(maxsize=4)
def polar(size: int) -> tuple[Field, Field]:
    """Radius, and angle in radians, of `coordinates`."""
    x, y = coordinates(size)
    return np.hypot(x, y), np.arctan2(y, x)


def soft(distance: Field) -> Field:
    """Coverage in 0..1 of a signed distance (positive inside) in the units of `coordinates`."""
    return np.asarray(np.clip(distance * np.float32(len(distance) / 2) + 0.5, 0.0, 1.0), np.float32)


def filled(size: int, colour: Colour) -> Field:
    """An even area, float32 [size, size, 3]."""
    return np.full((size, size, 3), colour, np.float32)


def mix(image: Field, colour: Colour | Field, coverage: Field) -> None:
    """Lay a colour, or an image, over `image` in place where `coverage` says."""
    colour = np.asarray(colour, np.float32)
    places = np.flatnonzero(coverage)
    if 4 * len(places) > coverage.size:
        image += (colour - image) * coverage[..., None]
        return
    # Most features cover little of the picture, and gathering them is several times faster than blending all of it.
    pixels = image.reshape(-1, 3)
    laid = colour if colour.ndim == 1 else colour.reshape(-1, 3)[places]
    pixels[places] += (laid - pixels[places]) * coverage.reshape(-1)[places, None]


def grain(rng: np.random.Generator, size: int, along: int = 1, across: int = 1) -> Field:
    """Noise of standard deviation 1, smeared over `along` pixels in x and `across` in y."""
    field = rng.standard_normal((size, size), np.float32)
    if along > 1 or across > 1:
        field = np.asarray(cv2.blur(field, (along, across)), np.float32) * np.float32((along * across) ** 0.5)
    return field


def cloud(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Smooth noise with about `cells` hills along a side, standard deviation near 0.7."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def discs(size: int, centres: ArrayLike, radius: float) -> Field:
    """Coverage of equal discs; centres [N, 2] and radius in the units of `coordinates`."""
    mask = np.zeros((size, size), np.uint8)
    for centre in _pixels(size, centres):
        cv2.circle(mask, tuple(int(v) for v in centre), round(radius * size / 2 * 16), 255, -1, cv2.LINE_AA, 4)
    return _coverage(mask)


def boxes(size: int, centres: ArrayLike, width: float, height: float) -> Field:
    """Coverage of equal upright boxes; centres [N, 2] and sides in the units of `coordinates`."""
    half = np.array([width, height]) / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    mask = np.zeros((size, size), np.uint8)
    for centre in np.asarray(centres, float).reshape(-1, 2):
        cv2.fillPoly(mask, [_pixels(size, centre + corners)], 255, cv2.LINE_AA, 4)
    return _coverage(mask)


def rounded_box(size: int, width: float, height: float, radius: float) -> Field:
    """Coverage of one box with round corners in the middle."""
    x, y = coordinates(size)
    dx, dy = np.abs(x) - (width / 2 - radius), np.abs(y) - (height / 2 - radius)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)
    return soft(radius - outside)


def strokes(size: int, lines: list[ArrayLike], width: float) -> Field:
    """Coverage of open polylines of one width, in the units of `coordinates`."""
    mask = np.zeros((size, size), np.uint8)
    thickness = max(1, round(width * size / 2))
    cv2.polylines(mask, [_pixels(size, line) for line in lines], False, 255, thickness, cv2.LINE_AA, 4)
    return _coverage(mask)


def polygon(size: int, points: ArrayLike) -> Field:
    """Coverage of one closed outline [N, 2], in the units of `coordinates`."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [_pixels(size, points)], 255, cv2.LINE_AA, 4)
    return _coverage(mask)


def paint_polygon(image: Field, coverage: Field, points: ArrayLike, colour: Colour) -> None:
    """Fill one closed outline in place, in `image` with a colour and in `coverage` with 1; hard borders, yet fast."""
    fixed = [_pixels(len(image), points)]
    cv2.fillPoly(image, fixed, colour, cv2.LINE_8, 4)
    cv2.fillPoly(coverage, fixed, 1.0, cv2.LINE_8, 4)


def label(size: int, text: str, at: tuple[float, float], letter_height: float) -> Field:
    """Coverage of printed text whose left end of the base line is `at`."""
    mask = np.zeros((size, size), np.uint8)
    x, y = (round((v + 1) * size / 2) for v in at)
    scale = letter_height * size / 2 / 21.0
    cv2.putText(mask, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, max(1, round(scale * 2.5)), cv2.LINE_AA)
    return _coverage(mask)


def rounded(coverage: Field, radius: float) -> Field:
    """Coverage with a sloping border, `radius` steps of S / 512 pixels wide: the relief of a worn or moulded edge."""
    return np.asarray(cv2.GaussianBlur(coverage, (0, 0), radius * len(coverage) / 512), np.float32)


def lit(albedo: Field, height: Field, gloss: float, angle: float) -> Field:
    """Light from `angle` (radians) at 50 degrees over a relief: float32 [S, S, 3]."""
    step = len(height) / 512
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=step / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=step / 8)
    towards = slope_x * np.float32(np.cos(angle)) + slope_y * np.float32(np.sin(angle))
    steepness = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    diffuse = np.clip((1.0 - 0.84 * towards) * steepness, 0.15, 1.9)
    # Blinn's half vector between a light at 50 degrees and a camera overhead; flat places get almost nothing.
    halfway = np.clip((0.94 - 0.34 * towards) * steepness, 0.0, 1.0)
    return np.asarray(albedo * diffuse[..., None] + (gloss * _power_24(halfway))[..., None], np.float32)


def _power_24(field: Field) -> Field:
    squared = field * field
    fourth = squared * squared
    eighth = fourth * fourth
    return eighth * eighth * eighth


def _pixels(size: int, points: ArrayLike) -> NDArray[np.int32]:
    places = (np.asarray(points, float).reshape(-1, 2) + 1) * (size / 2) - 0.5
    return np.round(places * 16).astype(np.int32)


def _coverage(mask: NDArray[np.uint8]) -> Field:
    return np.asarray(mask * np.float32(1 / 255))
