"""The teacher's features of all training images, computed once and kept as half floats on disk while a run trains."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from build_engines.methods.base import Method
from build_engines.networks.inspection import Normalize
from build_engines.precision import mixed_precision

_BATCH = 32
# Beside the cache, a run needs room for its checkpoint.
_DISK_RESERVE = 2 << 30
LARGEST_CACHE = 16 << 30


class TargetStore:
    """Targets of images by index; computed anew for each batch where the cache would not fit or a GPU is at hand.

    The cache file has no name once it is open, so that nothing is left behind by a killed process.
    """

    def __init__(self, folder: Path, device: torch.device, method: Method, pixels: NDArray[np.uint8]) -> None:
        self._device, self._method = device, method
        self._caches: list[NDArray[np.float16]] | None = None
        if device.type == "cpu":
            self._fill(folder, pixels)

    def get(self, index: NDArray[np.intp], images: Tensor) -> tuple[Tensor, ...]:
        """Targets of the images at `index`; `images` are the same, normalised [N, 3, H, W], on the run's device."""
        if self._caches is None:
            with torch.no_grad(), mixed_precision(self._device):
                return self._method.targets(images)
        return tuple(_channels_first(torch.from_numpy(cache[index])) for cache in self._caches)

    @torch.no_grad()
    def _fill(self, folder: Path, pixels: NDArray[np.uint8]) -> None:
        normalize = Normalize()
        caches: list[NDArray[np.float16]] = []
        for start in track(range(0, len(pixels), _BATCH), "Teacher features"):
            batch = normalize(torch.from_numpy(pixels[start : start + _BATCH])).contiguous(
                memory_format=torch.channels_last
            )
            with mixed_precision(self._device):
                targets = [_channels_last(target) for target in self._method.targets(batch)]
            if not caches:
                shapes = [(len(pixels), *target.shape[1:]) for target in targets]
                if not _fits(folder, sum(2 * int(np.prod(shape)) for shape in shapes)):
                    return
                caches = [_unnamed_array(folder, shape) for shape in shapes]
            for cache, target in zip(caches, targets, strict=True):
                cache[start : start + len(batch)] = target.to(torch.float16).numpy()
        self._caches = caches


def _channels_last(target: Tensor) -> Tensor:
    # The layout that the student's features have: mixing two costs half of the training's speed.
    return target.permute(0, 2, 3, 1) if target.ndim == 4 else target


def _channels_first(stored: Tensor) -> Tensor:
    return stored.permute(0, 3, 1, 2) if stored.ndim == 4 else stored


def _fits(folder: Path, size: int) -> bool:
    return size <= min(LARGEST_CACHE, shutil.disk_usage(folder).free - _DISK_RESERVE)


def _unnamed_array(folder: Path, shape: tuple[int, ...]) -> NDArray[np.float16]:
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float16, "w+", shape=shape)
