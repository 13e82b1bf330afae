"""Large images in tiles of the network's size, and the tiles' anomaly maps joined to one map without seams."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import TilingError


@dataclass(frozen=True)
class TileAxis:
    """One side of an image and of its tiles, in pixels or in cells of the anomaly map.

    Attributes:
        length: of the image.
        tile: length of a tile, at most the image's.
        overlap: by how much neighbours overlap at least, below half a tile.

    Raises:
        TilingError: they contradict each other.
    """

    length: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.overlap < self.tile <= self.length:
            raise TilingError(
                f"Tiles of {self.tile} that overlap by {self.overlap} cannot cover {self.length}; a tile must be no "
                "larger than the image, and the overlap below half a tile."
            )

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where the tiles begin. The last is moved inwards to end with the image, so that every tile is full."""
        last = self.length - self.tile
        return (*range(0, last, self.tile - self.overlap), last)

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """The share of each tile in each place it covers, [tiles, tile]: a ramp in the overlap, 1 where it is alone."""
        place = np.arange(self.tile) + 0.5
        ramp = np.minimum(np.minimum(place, self.tile - place), max(self.overlap, 0.5))
        total = np.zeros(self.length)
        for start in self.starts:
            total[start : start + self.tile] += ramp
        return np.stack([ramp / total[start : start + self.tile] for start in self.starts]).astype(np.float32)

    def scaled(self, tile: int) -> "TileAxis":
        """The same axis in units of which a tile has `tile`. Raises TilingError where tiles would begin between two."""
        if any(number * tile % self.tile for number in (self.length, self.overlap, *self.starts)):
            raise TilingError(
                f"An anomaly map of {tile} for a tile of {self.tile} pixels does not fit tiles that begin at "
                f"{', '.join(map(str, self.starts))}; build the engine with another tile or overlap."
            )
        return TileAxis(self.length * tile // self.tile, tile, self.overlap * tile // self.tile)


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of an image lie: row by row, T in all."""

    rows: TileAxis
    columns: TileAxis

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.rows.length, self.columns.length

    @cached_property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """Row and column where each tile begins."""
        return tuple(product(self.rows.starts, self.columns.starts))

    def scaled(self, height: int, width: int) -> "TileGrid":
        """The same grid in units of which a tile has height x width, those of its anomaly map.

        Raises TilingError where tiles would begin between two.
        """
        return TileGrid(self.rows.scaled(height), self.columns.scaled(width))

    def cut(self, image: NDArray[Any], number: int) -> NDArray[Any]:
        """A view of one tile [h, w, ...] of an image [H, W, ...]."""
        row, column = self.corners[number]
        return image[row : row + self.rows.tile, column : column + self.columns.tile]

    def split(self, image: NDArray[Any]) -> NDArray[Any]:
        """All tiles [T, h, w, ...] of an image [H, W, ...]."""
        return np.stack([self.cut(image, number) for number in range(len(self))])

    def stitch(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """One map [H, W] from those of the tiles [T, h, w], float32.

        Where tiles overlap their weights ramp linearly from one to the other, so that there is no seam, and a tile
        counts least at its border, where the network sees padding. The weights of a place sum to 1.
        """
        stitched = np.zeros(self.size, np.float32)
        shares = product(self.rows.weights, self.columns.weights)
        for number, (values, (down, across)) in enumerate(zip(maps, shares, strict=True)):
            place = self.cut(stitched, number)
            place += values * down[:, None] * across
        return stitched
