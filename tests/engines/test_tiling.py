"""Tiles cover an image, and joining what they give leaves no trace of them."""

import numpy as np
import pytest

from engines.errors import TilingError
from engines.tiling import TileAxis, TileGrid

AXES = [(1024, 256, 32), (1000, 256, 32), (256, 64, 0), (128, 64, 16), (64, 64, 16), (128, 64, 31), (97, 33, 5)]


@pytest.mark.parametrize("sizes", AXES)
def test_tiles_cover_the_side_and_end_with_it(sizes: tuple[int, int, int]) -> None:
    axis = TileAxis(*sizes)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.tile == axis.length
    steps = np.diff(axis.starts)
    assert (steps > 0).all() and (steps <= axis.tile - axis.overlap).all()


def test_the_stride_is_the_tile_less_the_overlap() -> None:
    assert TileAxis(1024, 256, 32).starts == (0, 224, 448, 672, 768)


@pytest.mark.parametrize("sizes", [(256, 64, 32), (256, 64, -1), (32, 64, 0), (256, 0, 0)])
def test_tiles_that_cannot_cover_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(TilingError, match="cannot cover"):
        TileAxis(*sizes)


@pytest.mark.parametrize("down", AXES)
@pytest.mark.parametrize("across", AXES)
def test_stitched_tiles_of_a_map_are_that_map(down: tuple[int, int, int], across: tuple[int, int, int]) -> None:
    grid = TileGrid(TileAxis(*down), TileAxis(*across))
    whole = np.random.default_rng(0).random(grid.size, np.float32)
    tiles = grid.split(whole)
    assert tiles.shape == (len(grid), down[1], across[1])
    np.testing.assert_allclose(grid.stitch(tiles), whole, rtol=1e-6)


def test_neighbours_that_disagree_are_joined_by_a_ramp() -> None:
    grid = TileGrid(TileAxis(16, 16, 0), TileAxis(28, 16, 4))
    stitched = grid.stitch(np.stack([np.zeros((16, 16), np.float32), np.ones((16, 16), np.float32)]))
    np.testing.assert_allclose(stitched[5, 12:16], [1 / 8, 3 / 8, 5 / 8, 7 / 8])
    assert (stitched[:, :12] == 0).all() and (stitched[:, 16:] == 1).all()


def test_images_keep_their_channels_and_type() -> None:
    grid = TileGrid(TileAxis(40, 16, 2), TileAxis(16, 16, 2))
    image = np.random.default_rng(0).integers(0, 256, (40, 16, 3), dtype=np.uint8)
    tiles = grid.split(image)
    assert (tiles.shape, tiles.dtype) == ((3, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(tiles[1], image[14:30])
    np.testing.assert_array_equal(tiles[2], image[24:])


def test_cells_of_the_map_lie_where_their_pixels_do() -> None:
    pixels = TileGrid(TileAxis(1024, 256, 32), TileAxis(512, 256, 32))
    cells = pixels.scaled(64, 64)
    assert cells.size == (256, 128)
    assert [(4 * row, 4 * column) for row, column in cells.corners] == list(pixels.corners)


def test_a_map_with_cells_across_the_tiles_borders_is_refused() -> None:
    with pytest.raises(TilingError, match="57"):
        TileAxis(1024, 256, 32).scaled(57)
