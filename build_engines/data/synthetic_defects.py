"""Defects that are added to a drawn part: scratch, chip and stain. Each changes albedo and relief in place."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from build_engines.data import synthetic_drawing as draw
from build_engines.data.synthetic_drawing import Artwork, Field

# Rust, oil and residue.
_TINTS = ((0.35, 0.22, 0.10), (0.10, 0.09, 0.07), (0.80, 0.77, 0.66))

Damage = Callable[[np.random.Generator, Artwork], None]


def scratch(rng: np.random.Generator, part: Artwork) -> None:
    """A thin bent groove with a bright burr, of a tenth to a third of the picture's side."""
    size = len(part.height)
    length, turn, bend = rng.uniform(0.25, 0.7), rng.uniform(0, 2 * np.pi), rng.uniform(-0.8, 0.8)
    along = np.linspace(-0.5, 0.5, 24)
    angles = turn + bend * along
    steps = np.stack([np.cos(angles), np.sin(angles)], 1) * (length / len(along))
    points = _somewhere(rng, part) + np.cumsum(steps, axis=0) - steps.sum(0) / 2
    width = rng.uniform(0.012, 0.024)
    groove = draw.strokes(size, [points], width) * part.coverage
    burr = draw.strokes(size, [points + width * 0.6], width * 0.6) * part.coverage
    strength = rng.uniform(0.55, 0.9)
    tone = part.albedo.mean(axis=2, keepdims=True)
    lighter = np.repeat(np.clip(tone * 1.3 + 0.18, 0, 0.95), 3, axis=2)
    draw.mix(part.albedo, lighter, burr * strength)
    draw.mix(part.albedo, np.asarray(part.albedo * 0.45, np.float32), groove * strength)
    part.height[...] -= draw.rounded(groove, 1.0) * rng.uniform(1.0, 2.0)


def hole(rng: np.random.Generator, part: Artwork) -> None:
    """A ragged chip with a dark bottom and a steep border."""
    size = len(part.height)
    radius = rng.uniform(0.035, 0.085)
    chip = draw.polygon(size, _ragged(rng, _somewhere(rng, part), radius, 0.28)) * part.coverage
    bottom = np.asarray(part.albedo * rng.uniform(0.12, 0.35) + 0.01, np.float32)
    rough = (0.02 * draw.grain(rng, size, 3, 3))[..., None]
    draw.mix(part.albedo, np.asarray(bottom + rough, np.float32), chip)
    part.height[...] -= draw.rounded(chip, 1.2) * rng.uniform(4.0, 7.0)


def stain(rng: np.random.Generator, part: Artwork) -> None:
    """A blot of oil, rust or residue: a tint unlike the part's own, with an uneven border, over an unchanged relief."""
    size = len(part.height)
    outline = _ragged(rng, _somewhere(rng, part), rng.uniform(0.10, 0.22), 0.22)
    blot = draw.rounded(draw.polygon(size, outline), rng.uniform(2.0, 5.0)) * part.coverage
    blot *= np.clip(0.85 + 0.25 * draw.cloud(rng, size, 12), 0.4, 1.0)
    tone = float(part.albedo[part.coverage > 0.5].mean())
    tints = [tint for tint in _TINTS if abs(float(np.mean(tint)) - tone) > 0.15]
    tint = np.array(tints[rng.integers(len(tints))], np.float32)
    draw.mix(part.albedo, np.asarray(part.albedo * 0.4 + tint * 0.6, np.float32), blot * rng.uniform(0.45, 0.8))


DAMAGES: dict[str, Damage] = {"scratch": scratch, "hole": hole, "stain": stain}


def _somewhere(rng: np.random.Generator, part: Artwork) -> NDArray[np.float64]:
    """A point well inside the part, in the units of `coordinates`."""
    size = len(part.coverage)
    inside = cv2.erode(part.coverage, np.ones((size // 32, size // 32), np.uint8))
    edge = size // 10
    rows, columns = np.nonzero(inside[edge:-edge, edge:-edge] > 0.9)
    pick = int(rng.integers(len(rows)))
    return (np.array([columns[pick], rows[pick]]) + edge + 0.5) * (2.0 / size) - 1.0


def _ragged(rng: np.random.Generator, centre: NDArray[np.float64], radius: float, unevenness: float) -> Field:
    corners = 40
    turns = np.arange(corners) * (2 * np.pi / corners)
    radii = np.ones(corners)
    for wave in range(2, 7):
        radii += unevenness * rng.normal() / wave * np.cos(wave * turns + rng.uniform(0, 2 * np.pi)) * 1.6
    stretch = np.array([1.0, rng.uniform(0.6, 1.0)])
    outline = np.stack([np.cos(turns), np.sin(turns)], 1) * np.clip(radii, 0.35, 1.7)[:, None] * stretch
    turn = rng.uniform(0, np.pi)
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.asarray(centre + outline @ np.array([[cosine, sine], [-sine, cosine]]) * radius, np.float32)
