"""Large images on a network that takes tiles: a backend like any other, so that nobody else knows of tiles."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engines.backends.base import Backend, DeviceFigures, RawResult
from engines.bundle import Outputs
from engines.errors import BackendError
from engines.tiling import TileGrid

_LARGEST_BATCH = 8


class TiledBackend(Backend):
    """Runs whole images: one stitched map, the score and the embedding that come of it.

    The score is the maximum of the stitched map, as the network's own is of its map, and not the largest of the tiles'
    scores: a tile is least to be trusted at its border, and there its neighbour has the say. It is also what regions
    are found in, so that a part that fails always shows where. The embedding is the mean of the tiles' embeddings.

    Args:
        backend: runs the tiles.
        grid: where they lie.
        outputs: the network's, for one tile.

    Raises:
        TilingError: the network's anomaly map does not fit the tiles.
    """

    def __init__(self, backend: Backend, grid: TileGrid, outputs: Outputs) -> None:
        self.name = backend.name
        self._backend = backend
        self._grid = grid
        self._cells = grid.scaled(outputs.map_height, outputs.map_width)
        # A divisor, so that all batches have one shape: OpenVINO compiles for each.
        self._batch = next(size for size in range(_LARGEST_BATCH, 0, -1) if len(grid) % size == 0)

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        if batch.shape[1:] != (*self._grid.size, 3):
            height, width = self._grid.size
            raise BackendError(
                f"The tiling failed on a batch of shape {batch.shape}; it takes [N, {height}, {width}, 3]."
            )
        return RawResult.joined([self._run_image(image) for image in batch])

    def on_device(self, batch: NDArray[np.uint8]) -> DeviceFigures | None:
        figures = [self._backend.on_device(tiles) for image in batch for tiles in self._batches(image)]
        known = [one for one in figures if one is not None]
        return DeviceFigures(sum(one.milliseconds for one in known), known[0].memory_bytes) if known else None

    def close(self) -> None:
        self._backend.close()

    def _batches(self, image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self._grid), self._batch):
            yield np.stack([self._grid.cut(image, number) for number in range(start, start + self._batch)])

    def _run_image(self, image: NDArray[np.uint8]) -> RawResult:
        found = RawResult.joined([self._backend.run(tiles) for tiles in self._batches(image)])
        stitched = self._cells.stitch(found.maps)
        return RawResult(stitched[None], np.array([stitched.max()]), found.embeddings.mean(axis=0, keepdims=True))
