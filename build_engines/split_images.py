"""The good images of a run, as it split them: whole for the engine, at the network's size for training."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from build_engines.data.folder import fingerprint, read_images
from build_engines.errors import DataError
from build_engines.run import RunRecord
from engines.tiling import TileGrid


class Tiles:
    """The tiles of images, indexed as the array uint8 [N * T, h, w, 3] of them, but cut only when they are asked for.

    Args:
        images: uint8 [N, H, W, 3].
        grid: of T tiles of h x w.
    """

    def __init__(self, images: NDArray[np.uint8], grid: TileGrid) -> None:
        self._images, self._grid = images, grid

    def __len__(self) -> int:
        return len(self._images) * len(self._grid)

    def __getitem__(self, index: int | slice | NDArray[np.intp]) -> NDArray[np.uint8]:
        numbers = np.arange(len(self))[index]
        places = (divmod(number, len(self._grid)) for number in numbers.ravel().tolist())
        cut = np.stack([self._grid.cut(self._images[image], tile) for image, tile in places])
        return cut.reshape(*numbers.shape, *cut.shape[1:])


class Chosen:
    """Some of many images, indexed as the array uint8 [N, h, w, 3] of them, but fetched only when they are asked for.

    Args:
        images: uint8 [M, h, w, 3].
        places: of the N among them.
    """

    def __init__(self, images: NDArray[np.uint8] | Tiles, places: NDArray[np.intp]) -> None:
        self._images, self._places = images, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int | slice | NDArray[np.intp]) -> NDArray[np.uint8]:
        return self._images[self._places[index]]


@dataclass(frozen=True)
class GoodImages:
    """Good images at the network's size, [N, h, w, 3], whole or in tiles; and which are held out, bool [N]."""

    pixels: NDArray[np.uint8] | Tiles
    held_out: NDArray[np.bool_]

    def only(self, wanted: NDArray[np.bool_]) -> Chosen:
        """Those of the images for which bool [N] is true."""
        return Chosen(self.pixels, np.flatnonzero(wanted))


@dataclass(frozen=True)
class SplitImages:
    """The good images of a run.

    Attributes:
        pixels: uint8 [N, H, W, 3] at the run's image size, class by class, in each the training images first.
        train, held_out: the same by class.
        grid: how the network takes them in tiles; None where it takes them whole.
    """

    pixels: NDArray[np.uint8]
    train: dict[str, NDArray[np.uint8]]
    held_out: dict[str, NDArray[np.uint8]]
    grid: TileGrid | None

    @classmethod
    def read(cls, record: RunRecord) -> "SplitImages":
        """The images of a run. Raises DataError where they are gone, changed or unreadable."""
        size = record.settings.image_size
        groups = [names for part in record.split for names in (part.train, part.held_out)]
        paths = [record.data_folder / name for group in groups for name in group]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing}, an image of the run, is gone; put the data folder back where it was.")
        if fingerprint(record.data_folder, paths) != record.data.sha256:
            raise DataError(f"The images in {record.data_folder} changed since the run; put them back or train again.")
        pixels = read_images(paths, size, size, "good images")
        views = [pixels[start:end] for start, end in pairwise(accumulate(map(len, groups), initial=0))]
        names = [part.name for part in record.split]
        train, held_out = (dict(zip(names, views[first::2], strict=True)) for first in (0, 1))
        return cls(pixels, train, held_out, record.settings.grid)

    def for_network(self) -> GoodImages:
        """All images as training takes them; the tiles of one image are on one side of the split."""
        counts = [(len(self.train[name]), len(self.held_out[name])) for name in self.train]
        held_out = np.concatenate([np.repeat([False, True], both) for both in counts])
        pixels = self._cut(self.pixels)
        return GoodImages(pixels, np.repeat(held_out, len(pixels) // len(held_out)))

    def calibration(self, count: int, seed: int) -> NDArray[np.uint8]:
        """`count` training images or tiles of them, [count, h, w, 3] at the network's size, drawn evenly over classes.

        Raises DataError where there are fewer.
        """
        pools = [self._cut(pixels) for pixels in self.train.values()]
        available = sum(map(len, pools))
        if count > available:
            raise DataError(f"Calibration asks for {count} training images and the run has {available}; ask for fewer.")
        generator = np.random.default_rng(seed)
        shuffled = [(pool, generator.permutation(len(pool)).tolist()) for pool in pools]
        drawn: list[NDArray[np.uint8]] = []
        while len(drawn) < count:
            drawn += [pool[order.pop()] for pool, order in shuffled if order]
        return np.stack(drawn[:count])

    def _cut(self, images: NDArray[np.uint8]) -> NDArray[np.uint8] | Tiles:
        return images if self.grid is None else Tiles(images, self.grid)
