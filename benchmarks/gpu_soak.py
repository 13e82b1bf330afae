"""Thousands of runs on worker threads: does an engine give the same every time, and does memory stay as it is?"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.backends import Backend

_SAMPLES = 100
_WARM_SHARE = 0.1
# What allocators of host and driver may still take after the first tenth.
_ALLOWED_MB = 16.0
_RELATIVE = 1e-3


@dataclass(frozen=True)
class Memory:
    """Megabytes after a tenth of the runs, at the most since then, and at the end."""

    warm: float
    largest: float
    end: float


@dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes:
        deviating: runs whose score is more than a thousandth off what it was expected to be.
        host: resident memory of this process.
        device: the device's memory in use, by whomever; None where there is no device.
        is_flat: neither grew by more than 16 MB after the first tenth.
        seconds: of all, opening included.
    """

    runs: int
    threads: int
    deviating: int
    host: Memory
    device: Memory | None
    is_flat: bool
    seconds: float


def soak(
    open_engine: Callable[[], Backend],
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    runs: int,
    threads: int,
    device_bytes: Callable[[], int] | None,
) -> Soak:
    """Run `images` one at a time, over and over.

    Args:
        open_engine: called on each thread, which alone uses and closes what it gets, as a service's workers do.
        images: uint8 [N, H, W, 3].
        expected: the same engine's scores for them, [N].
        runs: of all threads together.
        device_bytes: memory of the device that is in use.
    """
    samples: list[tuple[int, int]] = []
    each = max(runs // threads, 1)
    every = max(each // _SAMPLES, 1)

    def work(thread: int) -> int:
        engine = open_engine()
        deviating = 0
        try:
            for turn in range(each):
                which = (turn + thread) % len(images)
                (score,) = engine.run(images[which : which + 1]).scores
                deviating += not np.isclose(score, expected[which], rtol=_RELATIVE, atol=0)
                if thread == 0 and turn % every == 0:
                    samples.append((_resident_bytes(), device_bytes() if device_bytes else 0))
        finally:
            engine.close()
        return deviating

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        deviating = sum(pool.map(work, range(threads)))
    host, device = (_memory(np.array(column) / 1e6) for column in zip(*samples, strict=True))
    return Soak(
        runs=each * threads,
        threads=threads,
        deviating=deviating,
        host=host,
        device=device if device_bytes else None,
        is_flat=all(memory.largest - memory.warm <= _ALLOWED_MB for memory in (host, device)),
        seconds=time.perf_counter() - began,
    )


def _memory(megabytes: NDArray[np.float64]) -> Memory:
    later = megabytes[int(_WARM_SHARE * len(megabytes)) :]
    return Memory(float(later[0]), float(later.max()), float(later[-1]))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
