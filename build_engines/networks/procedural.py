"""An endless set of procedural pictures in 185 classes, from which a small teacher learns edges, shapes and textures.

Colour, contrast, light, blur and noise are drawn alike for every class, so that only structure tells classes apart.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from build_engines.networks import procedural_textures as textures
from build_engines.networks.procedural_shapes import LETTERS, SHAPES, letter_mask, shape_mask

SIZE = 96
Field = NDArray[np.float32]
_Texture = Callable[[np.random.Generator, Field, Field], Field]
_QUARTERS = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_ROWS, _COLUMNS = (axis.astype(np.float32) - SIZE / 2 for axis in np.mgrid[:SIZE, :SIZE])


def _textures() -> dict[str, _Texture]:
    table: dict[str, _Texture] = {}

    def add(function: Callable[..., Field], *choices: tuple[object, ...]) -> None:
        for values in product(*choices):
            name = " ".join([function.__name__, *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in values)])
            table[name] = partial(_call, function, values)

    add(textures.noise, (0.0, 1.0, 2.0, 3.5))
    add(textures.noise, (1.0, 2.5), _QUARTERS)
    add(textures.blotches, (1.5, 2.5, 3.5))
    add(textures.wood, (6.0, 14.0))
    add(textures.grating, (4.0, 8.0, 16.0), _QUARTERS, (False, True))
    add(textures.checker, (5.0, 9.0, 16.0), (0.0, np.pi / 4))
    add(textures.bricks, (12.0, 24.0), (6.0, 12.0), (0.0, 0.5))
    add(textures.lattice, (8.0, 16.0), (0.3,), (False, True), (False, True))
    add(textures.dots, (25,), (2.0, 5.0), (False, True))
    add(textures.dots, (90,), (1.5, 3.0), (False,))
    add(textures.cells, (15, 50, 160), (False, True))
    add(textures.weave, (5.0, 9.0), ("plain", "twill", "basket"))
    add(textures.brushed, (0.0, np.pi / 2), (0, 2, 7))
    add(textures.rings, (7.0, 14.0), (0, 1, 3))
    add(textures.rays, (5, 12, 24))
    add(textures.network, ("straight", "segments", "traces", "cracks"), (4, 14))
    add(textures.blobs, (3, 10), (4.0, 9.0))
    add(textures.speckle, (0.01, 0.06, 0.2))
    return table


def _call(function: Callable[..., Field], values: tuple[object, ...], *args: object) -> Field:
    return function(*args, *values)


_TEXTURES = _textures()
_TEXTURE_LIST = tuple(_TEXTURES.values())
_SHAPE_KINDS = tuple(product(SHAPES, (1, 7), (True, False)))
_LETTER_KINDS = tuple(product(LETTERS, (1, 5)))
CLASSES: tuple[str, ...] = (
    *_TEXTURES,
    *(f"{shape} x{count} {'filled' if filled else 'outline'}" for shape, count, filled in _SHAPE_KINDS),
    *(f"letter {letter} x{count}" for letter, count in _LETTER_KINDS),
)


def sample(seed: int, index: int) -> tuple[NDArray[np.uint8], int]:
    """The `index`-th picture of the set `seed`: uint8 [96, 96, 3] RGB, and its class, an index into `CLASSES`."""
    rng = np.random.default_rng([seed, index])
    label = int(rng.integers(len(CLASSES)))
    return render(rng, label), label


def render(rng: np.random.Generator, label: int) -> NDArray[np.uint8]:
    """A picture of class `label`, uint8 [96, 96, 3] RGB."""
    if label < len(_TEXTURE_LIST):
        field = _texture(rng, _TEXTURE_LIST[label])
        image = _coloured(field, *_colours(rng))
    else:
        mask = _mask(rng, label - len(_TEXTURE_LIST))
        image = _object(rng, mask)
    return _photograph(rng, image)


def _mask(rng: np.random.Generator, index: int) -> Field:
    if index < len(_SHAPE_KINDS):
        return shape_mask(rng, SIZE, *_SHAPE_KINDS[index])
    return letter_mask(rng, SIZE, *_LETTER_KINDS[index - len(_SHAPE_KINDS)])


def _texture(rng: np.random.Generator, texture: _Texture) -> Field:
    turn = rng.uniform(-0.2, 0.2)
    shift = rng.uniform(-20, 20, 2)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = _COLUMNS - np.float32(shift[0]), _ROWS - np.float32(shift[1])
    return texture(rng, x * cosine + y * sine, y * cosine - x * sine)


def _object(rng: np.random.Generator, mask: Field) -> Field:
    """A shape of one colour on a ground of another; either may carry a faint texture or stand out in slanting light."""
    ground, front = _colours(rng)
    image = _coloured(mask, ground, front)
    if rng.random() < 0.7:
        where = rng.choice(3)
        field = _texture(rng, _TEXTURE_LIST[rng.integers(len(_TEXTURE_LIST))]) - 0.5
        if where < 2:
            field = field * (mask if where else 1.0 - mask)
        image += (field * rng.uniform(0.05, 0.3))[..., None]
    if rng.random() < 0.4:
        soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1.0, 2.5))
        turn = rng.uniform(0, 2 * np.pi)
        slope = np.gradient(soft)
        image += ((slope[0] * np.sin(turn) + slope[1] * np.cos(turn)) * rng.uniform(0.5, 2.0))[..., None]
    return image


def _colours(rng: np.random.Generator) -> tuple[Field, Field]:
    """Two RGB colours in 0..1 that differ by 0.15 at least; a third are nearly grey, as industrial pictures are."""
    while True:
        pair = rng.uniform(0.02, 0.98, (2, 3)).astype(np.float32)
        if rng.random() < 0.35:
            pair = pair[:, :1] + rng.uniform(-0.02, 0.02, (1, 3)).astype(np.float32)
        if np.abs(pair[0] - pair[1]).max() > 0.15:
            return pair[0], pair[1]


def _coloured(field: Field, low: Field, high: Field) -> Field:
    return np.asarray(low + field[..., None] * (high - low), np.float32)


def _photograph(rng: np.random.Generator, image: Field) -> NDArray[np.uint8]:
    if rng.random() < 0.4:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3)), np.float32)
    turn, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.5)
    light = 1.0 + fall * (_COLUMNS * np.float32(np.cos(turn)) + _ROWS * np.float32(np.sin(turn))) / SIZE
    image = image * np.asarray(light * 255.0, np.float32)[..., None]
    if rng.random() < 0.7:
        image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1.0, 9.0))
    return np.clip(image, 0, 255).astype(np.uint8)
