"""Procedural textures: each function fills a square with one pattern, float32 [size, size] in about 0..1.

They take a generator, rotated and shifted pixel coordinates `u`, `v` of the same shape, and the pattern's parameters.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


@lru_cache(maxsize=256)
def _amplitudes(size: int, slope: float, angle: float | None) -> Field:
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    if angle is None:
        radius = np.hypot(fx, fy)
    else:
        along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
        radius = np.hypot(along * 3.0, across / 3.0)
    radius[0, 0] = np.inf
    return np.asarray(np.maximum(radius, 0.5 / size) ** (-slope / 2.0), np.float32)


def noise(rng: np.random.Generator, u: Field, v: Field, slope: float, angle: float | None = None) -> Field:
    """Fractal noise with power spectrum f^-slope, stretched along `angle` (radians) unless it is None."""
    size = len(u)
    amplitudes = _amplitudes(size, slope, angle)
    spectrum = rng.standard_normal((2, *amplitudes.shape), np.float32)
    field = np.fft.irfft2((spectrum[0] + 1j * spectrum[1]) * amplitudes, s=(size, size)).astype(np.float32)
    return np.asarray(0.5 + field * (0.22 / (field.std() + 1e-9)), np.float32)


def blotches(rng: np.random.Generator, u: Field, v: Field, slope: float) -> Field:
    """Fractal noise cut at its middle: islands with hard borders."""
    return _hard(noise(rng, u, v, slope) - 0.5, 12.0)


def wood(rng: np.random.Generator, u: Field, v: Field, period: float) -> Field:
    """Stripes bent by slow noise, like grain."""
    return _wave(u + 2.5 * period * (noise(rng, u, v, 4.0, np.pi / 2) - 0.5), period)


def grating(rng: np.random.Generator, u: Field, v: Field, period: float, angle: float, hard: bool) -> Field:
    """Parallel stripes, sinusoidal or with hard borders."""
    wave = _wave(u * np.cos(angle) + v * np.sin(angle), period * rng.uniform(0.85, 1.15))
    return _hard(wave - rng.uniform(0.35, 0.65), 6.0) if hard else wave


def checker(rng: np.random.Generator, u: Field, v: Field, side: float, angle: float) -> Field:
    """A checkerboard."""
    a, b = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    step = np.pi / (side * rng.uniform(0.85, 1.15))
    return _hard(np.sin(a * step) * np.sin(b * step), 8.0)


def bricks(rng: np.random.Generator, u: Field, v: Field, width: float, height: float, bond: float) -> Field:
    """Bricks of slightly different tone in mortar; each row is shifted by `bond` of a brick."""
    scale = rng.uniform(0.85, 1.15)
    row = np.floor(v / (height * scale))
    x = u / (width * scale) + row * bond
    inside = np.minimum(_to_border(x) * width, _to_border(v / (height * scale)) * height)
    tones = rng.random(97, np.float32)
    tone = tones[(np.floor(x) * 31 + row * 17).astype(np.int64) % 97]
    return np.asarray(np.clip(inside - 0.7, 0.0, 1.0) * (0.65 + 0.35 * tone), np.float32)


def lattice(
    rng: np.random.Generator, u: Field, v: Field, pitch: float, radius: float, hexagonal: bool, ring: bool
) -> Field:
    """Dots or rings on a square or hexagonal lattice; `radius` is a share of the pitch."""
    pitch *= rng.uniform(0.85, 1.15)
    height = pitch * (0.866 if hexagonal else 1.0)
    row = np.floor(v / height)
    x = u / pitch + (row * 0.5 if hexagonal else 0.0)
    distance = np.hypot((x - np.floor(x) - 0.5) * pitch, v - (row + 0.5) * height)
    inside = radius * pitch - distance
    return np.asarray(np.clip((1.6 - np.abs(inside)) if ring else inside + 0.5, 0.0, 1.0), np.float32)


def dots(rng: np.random.Generator, u: Field, v: Field, count: int, radius: float, ring: bool) -> Field:
    """Dots or rings at random places."""
    field = np.zeros_like(u)
    for x, y in rng.uniform(0, len(u), (count, 2)):
        size = radius * rng.uniform(0.75, 1.25)
        cv2.circle(field, (int(x * 16), int(y * 16)), int(size * 16), 1.0, 1 if ring else -1, cv2.LINE_8, 4)
    return field


def cells(rng: np.random.Generator, u: Field, v: Field, count: int, borders: bool) -> Field:
    """Voronoi cells, as flat tones or as their borders."""
    size = len(u)
    seeds = np.ones((size, size), np.uint8)
    places = rng.integers(0, size, (count, 2))
    seeds[places[:, 0], places[:, 1]] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    if not borders:
        return rng.random(count + 1, np.float32)[np.asarray(labels) % (count + 1)]
    labels32 = np.asarray(labels, np.float32)
    edges = np.abs(cv2.Laplacian(labels32, cv2.CV_32F)) > 0
    return np.asarray(np.where(edges, 1.0, np.asarray(distance) / (2.5 * size / count**0.5)), np.float32)


def weave(rng: np.random.Generator, u: Field, v: Field, pitch: float, kind: str) -> Field:
    """Threads over and under each other: `plain`, `twill` or `basket`."""
    pitch *= rng.uniform(0.85, 1.15)
    column, row = np.floor(u / pitch), np.floor(v / pitch)
    if kind == "plain":
        over = (column + row) % 2 < 1
    elif kind == "twill":
        over = (column + row) % 4 < 2
    else:
        over = (np.floor(column / 2) + np.floor(row / 2)) % 2 < 1
    warp, weft = np.abs(np.sin(np.pi * u / pitch)), np.abs(np.sin(np.pi * v / pitch))
    return np.asarray(np.where(over, 0.35 + 0.65 * warp, 0.75 * weft), np.float32)


def brushed(rng: np.random.Generator, u: Field, v: Field, angle: float, scratches: int) -> Field:
    """Brushed metal, with a number of bright or dark scratches."""
    field = 0.5 + 0.6 * (noise(rng, u, v, 1.0, angle) - 0.5)
    for _ in range(scratches):
        start, turn, length = rng.uniform(0, len(u), 2), rng.uniform(0, 2 * np.pi), rng.uniform(15, 50)
        end = start + length * np.array([np.cos(turn), np.sin(turn)])
        _line(field, start, end, float(rng.choice([0.0, 1.0])), 1)
    return field


def rings(rng: np.random.Generator, u: Field, v: Field, period: float, arms: int) -> Field:
    """Concentric rings, or a spiral with `arms` arms."""
    return _hard(_wave(np.hypot(u, v) + np.arctan2(v, u) * arms * period / (2 * np.pi), period) - 0.5, 3.0)


def rays(rng: np.random.Generator, u: Field, v: Field, count: int) -> Field:
    """Sectors around a centre."""
    return _hard(_wave(np.arctan2(v, u) / (2 * np.pi), 1.0 / count) - 0.5, 4.0)


def network(rng: np.random.Generator, u: Field, v: Field, kind: str, count: int) -> Field:
    """Lines: `straight` across, `segments`, right-angled `traces` with pads, or wandering `cracks`."""
    size = len(u)
    field = np.zeros_like(u)
    for _ in range(count):
        at = rng.uniform(0, size, 2)
        turn = rng.uniform(0, 2 * np.pi)
        if kind == "straight":
            step = 2.0 * size * np.array([np.cos(turn), np.sin(turn)])
            _line(field, at - step, at + step, 1.0, 1)
        elif kind == "segments":
            _line(field, at, at + rng.uniform(8, 20) * np.array([np.cos(turn), np.sin(turn)]), 1.0, 2)
        elif kind == "traces":
            for k in range(4):
                quarter = np.pi / 2 * (k + rng.integers(0, 2)) + np.pi / 4 * rng.integers(0, 2)
                end = at + rng.uniform(8, 28) * np.array([np.cos(quarter), np.sin(quarter)])
                _line(field, at, end, 0.8, 2)
                at = end
            cv2.circle(field, (int(at[0]), int(at[1])), 4, 1.0, -1)
        else:
            for _ in range(9):
                turn += rng.normal(0, 0.6)
                end = at + rng.uniform(4, 9) * np.array([np.cos(turn), np.sin(turn)])
                _line(field, at, end, 1.0, 1)
                at = end
    return field


def blobs(rng: np.random.Generator, u: Field, v: Field, count: int, radius: float) -> Field:
    """Soft bright spots on a slow gradient."""
    field = np.zeros_like(u)
    for x, y in rng.uniform(0, len(u), (count, 2)):
        cv2.circle(field, (int(x), int(y)), max(1, int(radius * rng.uniform(0.7, 1.3))), 1.0, -1)
    turn = rng.uniform(0, 2 * np.pi)
    gradient = (u * np.cos(turn) + v * np.sin(turn)) / len(u) * 0.3
    return np.asarray(cv2.GaussianBlur(field, (0, 0), radius / 2.2) + gradient, np.float32)


def speckle(rng: np.random.Generator, u: Field, v: Field, density: float) -> Field:
    """Single bright pixels."""
    return np.asarray(rng.random(u.shape, np.float32) < density, np.float32)


def _wave(x: Field, period: float) -> Field:
    return np.asarray(0.5 + 0.5 * np.sin(x * np.float32(2 * np.pi / period)), np.float32)


def _hard(field: Field, steepness: float) -> Field:
    return np.asarray(np.clip(field * steepness + 0.5, 0.0, 1.0), np.float32)


def _to_border(x: Field) -> Field:
    share = x - np.floor(x)
    return np.minimum(share, 1.0 - share)


def _line(field: Field, start: NDArray[np.float64], end: NDArray[np.float64], value: float, thickness: int) -> None:
    a, b = ((int(p[0] * 16), int(p[1] * 16)) for p in (start, end))
    cv2.line(field, a, b, value, thickness, cv2.LINE_8, 4)
