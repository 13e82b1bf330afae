"""Procedural shapes: outlines as polygons, letters, and masks with one large or several small ones."""

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Field = NDArray[np.float32]

SHAPES = ("triangle", "square", "hexagon", "star", "cross", "disc", "ellipse", "half", "ring", "gear", "arrow", "slot")
LETTERS = "AEHKMRSXZ2478"
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
_CROSS = [(-1, 3), (1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3), (-1, -3), (-1, -1), (-3, -1), (-3, 1), (-1, 1)]
_ARROW = [(0, 3), (2.4, 0.4), (1, 0.4), (1, -3), (-1, -3), (-1, 0.4), (-2.4, 0.4)]


def shape_mask(rng: np.random.Generator, size: int, shape: str, count: int, filled: bool) -> Field:
    """float32 [size, size] in 0..1: `count` times one of `SHAPES`, turned and scaled at random."""
    mask = np.zeros((size, size), np.uint8)
    for centre, radius in _places(rng, size, count):
        turn = rng.uniform(0, 2 * np.pi)
        outline = _turned(_outline(shape), turn) * radius + centre
        _draw(mask, outline, 255, filled)
        if shape == "ring":
            _draw(mask, _circle() * radius * 0.55 + centre, 0 if filled else 255, filled)
        elif shape == "gear":
            _draw(mask, _circle() * radius * 0.3 + centre, 0 if filled else 255, filled)
    return np.asarray(mask * np.float32(1 / 255))


def letter_mask(rng: np.random.Generator, size: int, letter: str, count: int) -> Field:
    """float32 [size, size] in 0..1: `count` times one letter, turned by up to 15 degrees."""
    mask = np.zeros((size, size), np.uint8)
    font = int(rng.choice(_FONTS))
    for centre, radius in _places(rng, size, count):
        layer = np.zeros_like(mask)
        scale = radius / 13.0
        (width, height), _ = cv2.getTextSize(letter, font, scale, 1)
        origin = (round(size / 2 - width / 2), round(size / 2 + height / 2))
        cv2.putText(layer, letter, origin, font, scale, 255, int(rng.integers(1, 2 + radius // 7)), cv2.LINE_AA)
        matrix = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-15, 15), 1.0)
        matrix[:, 2] += centre - size / 2
        mask = np.maximum(mask, cv2.warpAffine(layer, matrix, (size, size)))
    return np.asarray(mask * np.float32(1 / 255))


def _places(rng: np.random.Generator, size: int, count: int) -> list[tuple[Points, float]]:
    if count == 1:
        radius = size * rng.uniform(0.2, 0.36)
        return [(size / 2 + rng.uniform(-0.12, 0.12, 2) * size, radius)]
    columns = int(np.ceil(count**0.5))
    pitch = size / columns
    order = rng.permutation(columns * columns)[:count]
    grid = np.stack(np.divmod(order, columns), axis=1)
    centres = (grid + 0.5 + rng.uniform(-0.15, 0.15, (count, 2))) * pitch
    return [(centre, pitch * rng.uniform(0.3, 0.46)) for centre in centres]


def _outline(shape: str) -> Points:
    match shape:
        case "triangle" | "square" | "hexagon":
            return _regular({"triangle": 3, "square": 4, "hexagon": 6}[shape])
        case "star":
            return _regular(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
        case "cross":
            return np.array(_CROSS) / 3.1
        case "arrow":
            return np.array(_ARROW) / 3.0
        case "ellipse":
            return _circle() * (1.0, 0.5)
        case "half":
            return _circle()[:17]
        case "slot":
            return np.concatenate([_circle()[:17] * 0.4 + (0, 0.6), _circle()[16:] * 0.4 - (0, 0.6)])
        case "gear":
            angles = np.arange(48) * (2 * np.pi / 48)
            radii = np.where(np.arange(48) % 4 < 2, 1.0, 0.75)
            return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        case _:
            return _circle()


def _regular(corners: int) -> Points:
    angles = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _circle() -> Points:
    return _regular(32)


def _turned(points: Points, angle: float) -> Points:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def _draw(mask: NDArray[np.uint8], points: Points, value: int, filled: bool) -> None:
    fixed = np.round(points * 16).astype(np.int32)
    if filled:
        cv2.fillPoly(mask, [fixed], value, cv2.LINE_AA, 4)
    else:
        cv2.polylines(mask, [fixed], True, value, 2, cv2.LINE_AA, 4)
