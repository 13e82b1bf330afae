"""The teacher's features of all training images, computed once and kept as half floats on disk while a run trains."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from build_engines.methods.base import Method
from build_engines.networks.normalize import Normalize
from build_engines.precision import mixed_precision
from build_engines.processes import gathered, processes_here
from build_engines.run import TrainSettings
from build_engines.split_images import Tiles

_BATCH = 32
# Beside the cache, a run needs room for its checkpoint.
_DISK_RESERVE = 2 << 30
LARGEST_CACHE = 16 << 30


class TargetStore:
    """Targets of images by index; computed anew for each batch where they change from epoch to epoch (augmentation),
    where the cache would not fit, or where a GPU is at hand.

    The processes of a machine share one cache and compute a part of it each. Its file has no name once it is open, so
    that nothing is left behind by a killed process.

    Args:
        folder: where the cache is; the run's, or on another machine one of the same path.
        fabric: launched.
        method: on Fabric's device.
        pixels: of all images, uint8 [M, H, W, 3].
        settings: of the run.
    """

    def __init__(
        self,
        folder: Path,
        fabric: Fabric,
        method: Method,
        pixels: NDArray[np.uint8] | Tiles,
        settings: TrainSettings,
    ) -> None:
        self._fabric, self._method, self._settings = fabric, method, settings
        self._normalize = Normalize().to(fabric.device)
        self._caches: list[NDArray[np.float16]] | None = None
        if fabric.device.type == "cpu" and not settings.augmentation:
            self._fill(folder, pixels)

    def get(self, index: NDArray[np.intp], pixels: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        """Targets of the images at `index`, whose pixels are uint8 [N, H, W, 3], on the run's device."""
        if self._caches is None:
            return self.compute(pixels)
        return tuple(_channels_first(torch.from_numpy(cache[index])) for cache in self._caches)

    @torch.no_grad()
    def compute(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        """Targets of any images uint8 [N, H, W, 3]."""
        with mixed_precision(self._fabric.device, self._settings.mixed_precision):
            return self._method.targets(self.inputs(pixels))

    def inputs(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 [N, H, W, 3] to normalised RGB [N, 3, H, W] on the run's device, channels last in memory."""
        normalized: Tensor = self._normalize(torch.from_numpy(pixels).to(self._fabric.device))
        return normalized.contiguous(memory_format=torch.channels_last)

    def _fill(self, folder: Path, pixels: NDArray[np.uint8] | Tiles) -> None:
        shapes = [(len(pixels), *_channels_last(target).shape[1:]) for target in self.compute(pixels[:1])]
        size = sum(2 * int(np.prod(shape)) for shape in shapes)
        # Of each machine one decides: the free space it sees is not what another sees a moment later.
        leads = self._fabric.local_rank == 0
        if not all(gathered(self._fabric, not leads or _fits(folder, size))):
            return
        caches = [_shared_array(self._fabric, folder, shape) for shape in shapes]
        starts = range(0, len(pixels), _BATCH)[self._fabric.local_rank :: processes_here(self._fabric)]
        for start in track(starts, "Teacher features"):
            targets = self.compute(pixels[start : start + _BATCH])
            for cache, target in zip(caches, targets, strict=True):
                cache[start : start + len(target)] = _channels_last(target).to(torch.float16).numpy()
        self._fabric.barrier()
        self._caches = caches


def _channels_last(target: Tensor) -> Tensor:
    # The layout that the student's features have: mixing two costs half of the training's speed.
    return target.permute(0, 2, 3, 1) if target.ndim == 4 else target


def _channels_first(stored: Tensor) -> Tensor:
    return stored.permute(0, 3, 1, 2) if stored.ndim == 4 else stored


def _fits(folder: Path, size: int) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    return size <= min(LARGEST_CACHE, shutil.disk_usage(folder).free - _DISK_RESERVE)


def _shared_array(fabric: Fabric, folder: Path, shape: tuple[int, ...]) -> NDArray[np.float16]:
    with ExitStack() as opened:
        path = ""
        leads = fabric.local_rank == 0
        if leads:
            file = opened.enter_context(tempfile.TemporaryFile(dir=folder))
            array = np.memmap(file, np.float16, "w+", shape=shape)
            path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        path = gathered(fabric, path)[fabric.global_rank - fabric.local_rank]
        if not leads:
            array = np.memmap(path, np.float16, "r+", shape=shape)
        fabric.barrier()
        return array
