"""A run's images come back as it split them, whole and in tiles."""

from pathlib import Path

import numpy as np
import pytest

from build_engines import run
from build_engines.errors import DataError
from build_engines.split_images import SplitImages, Tiles
from engines.images import decode
from engines.tiling import TileAxis, TileGrid


@pytest.fixture(scope="module")
def record(tiled_run_folder: Path) -> run.RunRecord:
    return run.load_finished(tiled_run_folder)


@pytest.fixture(scope="module")
def images(record: run.RunRecord) -> SplitImages:
    return SplitImages.read(record)


def test_tiles_index_as_the_array_of_them_does() -> None:
    grid = TileGrid(TileAxis(10, 4, 1), TileAxis(7, 4, 1))
    whole = np.random.default_rng(0).integers(0, 256, (5, 10, 7, 3), dtype=np.uint8)
    tiles, array = Tiles(whole, grid), np.concatenate([grid.split(image) for image in whole])
    assert len(tiles) == len(array) == 30
    for index in (4, -1, slice(3, 9), slice(None), np.array([29, 0, 7]), np.arange(30) % 4 == 1):
        np.testing.assert_array_equal(tiles[index], array[index])


def test_every_image_is_in_the_place_the_record_gives_it(record: run.RunRecord, images: SplitImages) -> None:
    for part in record.split:
        for names, pixels in ((part.train, images.train[part.name]), (part.held_out, images.held_out[part.name])):
            assert len(names) == len(pixels)
            for name, image in zip(names, pixels, strict=True):
                expected = decode((record.data_folder / name).read_bytes(), 128, 128).pixels
                np.testing.assert_array_equal(image, expected)


def test_all_tiles_of_an_image_are_on_one_side_of_the_split(images: SplitImages) -> None:
    good = images.for_network()
    assert images.grid is not None
    sides = good.held_out.reshape(len(images.pixels), len(images.grid))
    assert (sides == sides[:, :1]).all()
    for held_out, parts in ((False, images.train), (True, images.held_out)):
        expected = np.concatenate([images.grid.split(image) for pixels in parts.values() for image in pixels])
        np.testing.assert_array_equal(good.pixels[np.flatnonzero(good.held_out == held_out)], expected)


def test_calibration_draws_tiles_of_training_images_evenly_and_repeatably(images: SplitImages) -> None:
    assert images.grid is not None
    drawn = images.calibration(100, seed=1)
    assert drawn.shape == (100, 64, 64, 3)
    np.testing.assert_array_equal(drawn, images.calibration(100, seed=1))
    assert (drawn != images.calibration(100, seed=2)).any()
    tiles = {
        name: {tile.tobytes() for image in pixels for tile in images.grid.split(image)}
        for name, pixels in images.train.items()
    }
    found = [[tile.tobytes() in known for tile in drawn] for known in tiles.values()]
    assert np.sum(found, axis=1).tolist() == [50, 50]
    assert len({tile.tobytes() for tile in drawn}) == 100


def test_more_calibration_tiles_than_there_are_is_refused(images: SplitImages) -> None:
    with pytest.raises(DataError, match="asks for 433 training images and the run has 432"):
        images.calibration(433, seed=0)
