"""The synthetic part types. Each is drawn straight and in the middle; pose, light, defects and camera come later.

A painter takes a generator (tolerances and texture), the side in pixels, and `missing`: None for a whole part, or a
number in [0, 1) that says which feature is left out. It draws the same random numbers in both cases, so that a part
with and without its feature differ in nothing else.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from build_engines.data import synthetic_drawing as draw
from build_engines.data.synthetic_drawing import Artwork, Field

Painter = Callable[[np.random.Generator, int, float | None], Artwork]


def gear(rng: np.random.Generator, size: int, missing: float | None) -> Artwork:
    """A turned steel gear on a conveyor belt; the feature is a tooth."""
    teeth = 22
    radius, angle = draw.polar(size)
    tooth = (angle / (2 * np.pi) * teeth) % teeth
    swing = np.abs(tooth % 1.0 - 0.5) * 2
    outer = 0.66 + 0.12 * np.clip((0.56 - swing) * 3.2, 0, 1)
    if missing is not None:
        outer = np.where(np.floor(tooth) == int(missing * teeth), 0.66, outer)
    turns = np.arange(6) * (np.pi / 3)
    openings = draw.discs(size, np.stack([np.cos(turns), np.sin(turns)], 1) * 0.40, 0.095)
    bore = np.maximum(draw.soft(0.14 - radius), draw.boxes(size, [(0.0, -0.14)], 0.09, 0.1))
    coverage = draw.soft(outer - radius) * (1 - openings) * (1 - bore)
    web = draw.soft(radius - 0.235) * draw.soft(0.575 - radius)
    height = 5 * draw.rounded(coverage, 2.0) - 4 * draw.rounded(web, 2.0)
    grooves = rng.standard_normal(size, np.float32)[np.minimum((radius * size * 0.5).astype(np.int32), size - 1)]
    tone = 0.46 + 0.025 * grooves * (1 - 0.5 * web) + 0.015 * draw.grain(rng, size, 2, 2) - 0.07 * web
    # Turned faces shine in two opposite fans.
    tone += 0.07 * np.cos(2 * angle - 1.2)
    albedo = tone[..., None] * np.array([1.0, 1.01, 1.04], np.float32)
    return Artwork(np.asarray(albedo, np.float32), height, coverage, _belt(rng, size), 0.5)


def plate(rng: np.random.Generator, size: int, missing: float | None) -> Artwork:
    """A brushed aluminium plate with drilled holes on a blue mat; the feature is a hole."""
    holes = np.array([(x, y) for y in (-0.45, 0.0, 0.45) for x in (-0.55, -0.18, 0.18, 0.55) if (x, y) != (0.18, 0.0)])
    centres = holes + rng.normal(0, 0.004, holes.shape)
    if missing is not None:
        centres = np.delete(centres, int(missing * len(centres)), axis=0)
    outline = draw.rounded_box(size, 1.56, 1.36, 0.12)
    drilled, sunk = draw.discs(size, centres, 0.062), draw.discs(size, centres, 0.088)
    slot = draw.strokes(size, [[(-0.3, 0.23), (0.3, 0.23)]], 0.06)
    coverage = outline * (1 - slot)
    height = 5 * draw.rounded(outline, 2.0) - 5 * draw.rounded(sunk, 1.5) - 6 * draw.rounded(slot, 1.5)
    brush = draw.grain(rng, size, 61, 1) + 0.6 * draw.grain(rng, size, 9, 1)
    tone = 0.62 + 0.045 * brush + 0.03 * draw.cloud(rng, size, 4)
    albedo = np.asarray(tone[..., None] * np.array([1.0, 1.0, 1.01], np.float32), np.float32)
    draw.mix(albedo, (0.05, 0.05, 0.06), drilled)
    stamp = draw.label(size, "AL 6061-T6", (-0.32, 0.66), 0.07)
    draw.mix(albedo, (0.35, 0.35, 0.36), stamp * 0.8)
    ground = draw.filled(size, (0.10, 0.15, 0.24)) + (0.012 * draw.grain(rng, size, 3, 3))[..., None]
    return Artwork(albedo, height, coverage, ground, 0.35)


def board(rng: np.random.Generator, size: int, missing: float | None) -> Artwork:
    """A green circuit board with traces, pads and components; the feature is a component."""
    gold, copper, solder = (0.80, 0.66, 0.32), (0.13, 0.42, 0.20), (0.72, 0.73, 0.74)
    albedo = draw.filled(size, (0.05, 0.27, 0.13)) + (0.008 * draw.grain(rng, size, 2, 2))[..., None]
    outline = draw.rounded_box(size, 1.84, 1.84, 0.06)
    traces = draw.strokes(size, list(_TRACES), 0.022)
    vias = draw.discs(size, [line[-1] for line in _TRACES], 0.028)
    draw.mix(albedo, copper, traces)
    draw.mix(albedo, gold, vias)
    draw.mix(albedo, (0.03, 0.04, 0.03), draw.discs(size, [line[-1] for line in _TRACES], 0.012))
    draw.mix(albedo, (0.85, 0.87, 0.85), 0.9 * draw.label(size, "UNI-7 REV C", (-0.36, -0.80), 0.055))
    corners = [(x, y) for x in (-0.8, 0.8) for y in (-0.8, 0.8)]
    draw.mix(albedo, gold, draw.discs(size, corners, 0.085))
    draw.mix(albedo, (0.04, 0.04, 0.04), draw.discs(size, corners, 0.05))
    height = 4 * draw.rounded(outline, 1.5) + 0.8 * draw.rounded(traces, 1.0)

    shifts = rng.normal(0, 0.004, (len(_COMPONENTS), 2))
    left_out = None if missing is None else int(missing * len(_COMPONENTS))
    placed = [i for i in range(len(_COMPONENTS)) if i != left_out]
    pins = [_pins(*component[:4]) for component in _COMPONENTS]
    draw.mix(albedo, gold, draw.boxes(size, np.concatenate(pins), 0.052, 0.085))
    draw.mix(albedo, solder, draw.boxes(size, np.concatenate([pins[i] + shifts[i] for i in placed]), 0.036, 0.07))
    bodies = np.zeros((size, size), np.float32)
    for i in placed:
        x, y, width, depth, colour = _COMPONENTS[i]
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, depth / 2 - 0.015)
        draw.paint_polygon(albedo, bodies, corners + (x, y) + shifts[i], colour)
    height += 6 * draw.rounded(bodies, 1.5)
    ground = draw.filled(size, (0.55, 0.54, 0.52)) + (0.01 * draw.grain(rng, size, 3, 3))[..., None]
    return Artwork(albedo, height, outline, ground, 0.25)


def fabric(rng: np.random.Generator, size: int, missing: float | None) -> Artwork:
    """A twill that fills the picture; the feature is a stretch of one weft thread."""
    threads = 46
    x, y = draw.coordinates(size)
    bend = 0.010 * draw.cloud(rng, size, 5), 0.010 * draw.cloud(rng, size, 5)
    across, down = (x + bend[0] + 1) * threads / 2, (y + bend[1] + 1) * threads / 2
    column, row = np.floor(across).astype(np.int32), np.floor(down).astype(np.int32)
    over = (column + row) % 4 < 2
    if missing is not None:
        torn = 4 + int(missing * (threads - 8))
        start = -0.75 + 0.9 * ((missing * 7919) % 1.0)
        over = over | ((row == torn) & (x > start) & (x < start + 0.45))
    warp, weft = np.sin(np.pi * (across - column)), np.sin(np.pi * (down - row))
    uneven = rng.normal(0, 0.035, (2, threads + 12)).astype(np.float32)
    tone_warp, tone_weft = uneven[0][np.clip(column, -6, threads + 5)], uneven[1][np.clip(row, -6, threads + 5)]
    fibre = 0.03 * draw.grain(rng, size, 1, 5) * over + 0.03 * draw.grain(rng, size, 5, 1) * ~over
    tone = np.where(over, 0.55 + 0.45 * warp + tone_warp, 0.55 + 0.45 * weft + tone_weft) + fibre
    warp_colour, weft_colour = np.array([0.30, 0.38, 0.52], np.float32), np.array([0.62, 0.62, 0.58], np.float32)
    albedo = np.asarray(np.where(over[..., None], warp_colour, weft_colour) * tone[..., None], np.float32)
    if missing is not None:
        gap = (row == torn) & (x > start) & (x < start + 0.45)
        albedo = np.where(gap[..., None], albedo * 0.55, albedo)
    height = np.asarray(np.where(over, warp, weft) * 1.5, np.float32)
    return Artwork(albedo, height, np.ones((size, size), np.float32), albedo, 0.0)


def cap(rng: np.random.Generator, size: int, missing: float | None) -> Artwork:
    """A red bottle cap with a knurled rim and an embossed mark; the feature is a stretch of the knurling."""
    ridges = 64
    radius, angle = draw.polar(size)
    place = (angle / (2 * np.pi) * ridges) % ridges
    ridge = 0.5 + 0.5 * np.cos(2 * np.pi * place)
    if missing is not None:
        first = int(missing * ridges)
        ridge = np.where((place - first) % ridges < 5, 0.0, ridge)
    coverage = draw.soft(0.76 + 0.025 * ridge - radius)
    rim = np.asarray(np.clip((radius - 0.64) / 0.02, 0, 1), np.float32)
    turns = np.arange(10) * (np.pi / 5) - np.pi / 2
    spikes = np.stack([np.cos(turns), np.sin(turns)], 1) * np.where(np.arange(10) % 2, 0.13, 0.30)[:, None]
    mark = draw.polygon(size, spikes)
    ring = draw.soft(0.03 - np.abs(radius - 0.43))
    height = 10 * draw.rounded(coverage, 4.0) + rim * ridge * 4 - 3 * rim
    height = height + 4 * draw.rounded(draw.soft(0.62 - radius), 5.0)
    height += 3 * draw.rounded(np.maximum(mark, ring), 1.6)
    speckle = 0.010 * draw.grain(rng, size, 3, 3) + 0.015 * draw.cloud(rng, size, 6)
    albedo = draw.filled(size, (0.62, 0.09, 0.08)) * (1 + rng.normal(0, 0.02)) + speckle[..., None]
    albedo *= (1 - 0.30 * rim * (1 - ridge))[..., None]
    ground = draw.filled(size, (0.66, 0.67, 0.66)) + (0.012 * draw.grain(rng, size, 2, 2))[..., None]
    return Artwork(np.asarray(albedo, np.float32), np.asarray(height, np.float32), coverage, ground, 0.35)


def blister(rng: np.random.Generator, size: int, missing: float | None) -> Artwork:
    """A foil blister with ten pills; the feature is a pill."""
    places = np.array([(x, y) for y in (-0.62, -0.31, 0.0, 0.31, 0.62) for x in (-0.3, 0.3)])
    left_out = [] if missing is None else [int(missing * len(places))]
    x, y = draw.coordinates(size)
    outline = draw.rounded_box(size, 1.24, 1.72, 0.10)
    step = np.pi * size / 12
    embossed = np.abs(np.sin((x + y) * step / 2)) * np.abs(np.sin((x - y) * step / 2))
    albedo = draw.filled(size, (0.60, 0.61, 0.63)) + (0.02 * draw.grain(rng, size, 2, 2))[..., None]
    height = 3 * draw.rounded(outline, 1.5) + embossed * 0.7
    shifts, turns = rng.normal(0, 0.010, places.shape), rng.uniform(0, np.pi, len(places))
    pockets = draw.discs(size, places, 0.135)
    height += 5 * draw.rounded(pockets, 3.0) - embossed * 0.7 * pockets
    draw.mix(albedo, (0.52, 0.53, 0.56), 0.7 * pockets)
    centres = np.delete(places + shifts, left_out, axis=0)
    grooves = np.delete(np.stack([np.cos(turns), np.sin(turns)], 1) * 0.085, left_out, axis=0)
    pills = draw.discs(size, centres, 0.10)
    scores = draw.strokes(size, list(np.stack([centres - grooves, centres + grooves], 1)), 0.016)
    draw.mix(albedo, (0.88, 0.80, 0.74), pills)
    draw.mix(albedo, (0.62, 0.52, 0.46), scores)
    height += 5 * draw.rounded(pills, 4.0) - 2 * draw.rounded(scores, 1.0)
    ground = draw.filled(size, (0.16, 0.17, 0.18)) + (0.010 * draw.grain(rng, size, 3, 3))[..., None]
    return Artwork(albedo, np.asarray(height, np.float32), outline, ground, 0.45)


PARTS: dict[str, Painter] = {
    "gear": gear,
    "board": board,
    "fabric": fabric,
    "cap": cap,
    "plate": plate,
    "blister": blister,
}

_TRACES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((-0.62, -0.45), (-0.62, -0.68), (0.10, -0.68), (0.22, -0.56), (0.70, -0.56)),
    ((-0.45, -0.42), (-0.45, -0.60), (0.02, -0.60), (0.14, -0.48), (0.14, -0.20)),
    ((-0.28, -0.10), (-0.28, 0.10), (-0.12, 0.26), (0.50, 0.26), (0.62, 0.38), (0.62, 0.62)),
    ((-0.55, -0.10), (-0.55, 0.22), (-0.70, 0.37), (-0.70, 0.66)),
    ((-0.42, -0.10), (-0.42, 0.30), (-0.26, 0.46), (-0.26, 0.74), (-0.05, 0.74)),
    ((0.46, 0.05), (0.46, 0.16), (0.80, 0.16), (0.80, 0.50)),
    ((0.30, -0.30), (0.02, -0.30), (-0.02, -0.26), (-0.02, 0.12), (0.10, 0.12)),
    ((0.25, 0.55), (0.25, 0.78), (0.50, 0.78)),
    ((0.10, 0.55), (0.10, 0.40), (-0.10, 0.40), (-0.10, 0.58)),
    ((0.60, -0.40), (0.84, -0.40), (0.84, -0.10)),
)
_BLACK, _BROWN, _WHITE = (0.07, 0.07, 0.08), (0.45, 0.32, 0.20), (0.75, 0.74, 0.70)
# x, y, width, depth, colour
_COMPONENTS: tuple[tuple[float, float, float, float, tuple[float, float, float]], ...] = (
    (-0.42, -0.26, 0.56, 0.30, _BLACK),
    (0.46, -0.16, 0.40, 0.40, _BLACK),
    (0.18, 0.62, 0.36, 0.24, _BLACK),
    (-0.52, 0.46, 0.09, 0.20, _BROWN),
    (-0.38, 0.60, 0.09, 0.20, _BROWN),
    (-0.52, 0.78, 0.09, 0.20, _WHITE),
    (0.44, 0.48, 0.09, 0.20, _BROWN),
    (-0.04, -0.42, 0.09, 0.20, _WHITE),
    (0.10, -0.04, 0.09, 0.20, _BROWN),
    (0.75, 0.06, 0.09, 0.20, _WHITE),
)


def _pins(x: float, y: float, width: float, depth: float) -> NDArray[np.float64]:
    count = max(1, round(width / 0.09))
    columns = x + (np.arange(count) - (count - 1) / 2) * (width / count)
    return np.array([(column, y + side * depth / 2) for column in columns for side in (-1, 1)])


def _belt(rng: np.random.Generator, size: int) -> Field:
    x, y = draw.coordinates(size)
    ribs = np.sin((x + y) * np.float32(np.pi * 22))
    tone = 0.09 + 0.012 * ribs + 0.010 * draw.grain(rng, size, 2, 2) + 0.008 * draw.cloud(rng, size, 5)
    return np.asarray(cv2.merge([tone, tone, tone * 1.04]), np.float32)
