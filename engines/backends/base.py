"""The interface every inference library is put behind."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# The libraries that run plans, on a GPU.
LibraryName = Literal["tensorrt", "tensorrt_rtx"]


@dataclass(frozen=True, slots=True)
class RawResult:
    """What the network gives for N images: maps float32 [N, h, w], scores float32 [N], embeddings float32 [N, C]."""

    maps: NDArray[np.float32]
    scores: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    @classmethod
    def joined(cls, results: Sequence["RawResult"]) -> "RawResult":
        """The results of one batch after the other as those of one."""
        return cls(
            np.concatenate([result.maps for result in results]),
            np.concatenate([result.scores for result in results]),
            np.concatenate([result.embeddings for result in results]),
        )


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """Of one batch on a device with a clock and a memory of its own.

    Attributes:
        milliseconds: that it computed, without copies and without the CPU's part.
        memory_bytes: that the backend took of its memory when it was opened.
    """

    milliseconds: float
    memory_bytes: int


class Backend(ABC):
    """A network ready to run. Not thread-safe: one thread uses it at a time."""

    name: str
    # A batch is no faster on a CPU than its images one after the other.
    largest_batch = 1

    @abstractmethod
    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        """Run uint8 [N, H, W, 3] RGB images at the bundle's image size. The arrays returned are the caller's to keep.

        Raises BackendError where the library fails.
        """

    def on_device(self, batch: NDArray[np.uint8]) -> DeviceFigures | None:
        """Run a batch and tell what the device itself took; None where the library computes on the CPU."""
        return None

    def close(self) -> None:  # noqa: B027
        """Give memory back, on the thread that opened the backend; it must not be used any more.

        A backend of the CPU does so by itself once nobody refers to it.
        """
