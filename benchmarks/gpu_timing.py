"""Latency of several engines in one process, in turn, so that a busy or hot moment meets all alike."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from engines.backends.base import DeviceFigures

_WARM_UP = 10


class Timed(Protocol):
    """What a backend has, and `TorchNetwork`."""

    def run(self, images: NDArray[np.uint8], /) -> object:
        """Host to host."""

    def on_device(self, images: NDArray[np.uint8], /) -> DeviceFigures | None:
        """What the GPU alone takes."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call; each the median over repeats of what a repeat has.

    Attributes:
        median, p95: by the host's clock, from pixels on the host to results on the host.
        lowest, highest: of the repeats' medians.
        device: median between CUDA events around the computation alone; None on a CPU.
        rate: images a second at the median.
    """

    median: float
    p95: float
    lowest: float
    highest: float
    device: float | None
    rate: float


def in_turn(engines: Mapping[str, Timed], images: NDArray[np.uint8], repeats: int, calls: int) -> dict[str, Latency]:
    """Time each engine on a batch, `calls` times one after the other, and that `repeats` times.

    Args:
        images: the batch, uint8 [N, H, W, 3].
    """
    hosts: dict[str, list[list[float]]] = {name: [] for name in engines}
    devices: dict[str, list[float]] = {name: [] for name in engines}
    for _ in track(range(repeats), f"Latency, batch {len(images)}"):
        for name, engine in engines.items():
            for _ in range(min(_WARM_UP, calls)):
                engine.run(images)
            hosts[name].append([_milliseconds(engine, images) for _ in range(calls)])
            figures = [engine.on_device(images) for _ in range(calls)]
            devices[name] += [found.milliseconds for found in figures if found is not None]
    return {name: _latency(np.array(hosts[name]), devices[name], len(images)) for name in engines}


def _milliseconds(engine: Timed, images: NDArray[np.uint8]) -> float:
    began = time.perf_counter()
    engine.run(images)
    return (time.perf_counter() - began) * 1e3


def _latency(hosts: NDArray[np.float64], device: list[float], images: int) -> Latency:
    medians = np.median(hosts, axis=1)
    median = float(np.median(medians))
    return Latency(
        median=median,
        p95=float(np.median(np.percentile(hosts, 95, axis=1))),
        lowest=float(medians.min()),
        highest=float(medians.max()),
        device=float(np.median(device)) if device else None,
        rate=images * 1e3 / median,
    )
