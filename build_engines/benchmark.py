"""Speed of an engine stage by stage, beside PyTorch FP32 eager of the same network, in one process and in turn."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from rich.progress import track

from build_engines.libraries import versions
from build_engines.methods import build_method
from build_engines.networks.inspection import InspectionNetwork
from build_engines.networks.resnet import build_trunk
from engines.bundle import Bundle
from engines.detector import Detector
from engines.images import PartImage, decode_reduced, read_header, resize

BATCHES = (1, 2, 4, 8)
# Stages take turns in blocks: each finds the caches and the threads as its own calls leave them, as in service, and a
# busy moment of the machine still meets all alike.
_BLOCK = 10
_EAGER_TILES = 8
_WARM_UP = 3


@dataclass(frozen=True)
class Stage:
    """Milliseconds a call, and images a second at the median."""

    median: float
    p95: float
    p99: float
    rate: float


@dataclass(frozen=True)
class Figures:
    """All stages; `ratio` is the engine's median time at batch 1 over PyTorch's.

    Attributes:
        device_memory_bytes: what the engine took of a GPU's memory; None where it runs on the CPU.
    """

    stages: dict[str, Stage]
    ratio: float
    threads: int
    device_memory_bytes: int | None = None

    def as_json(self) -> dict[str, object]:
        """With machine and versions."""
        return {**asdict(self), "machine": f"{platform.machine()}, {cpu_name()}", "libraries": versions()}


def benchmark(detector: Detector, data: bytes, repeats: int, threads: int = 0) -> Figures:
    """Time every stage `repeats` times, in turn.

    Args:
        detector: opened on the backend to be measured.
        data: the picture that is decoded.
        repeats: timed calls of each stage.
        threads: of PyTorch; 0 leaves its own choice, one per core. Give the engine's.

    Raises ImageError where the picture cannot be decoded.
    """
    if threads:
        torch.set_num_threads(threads)
    height, width = detector.bundle.manifest.image_size
    header = read_header(data)
    image = detector.decode(data)
    reduced = decode_reduced(data, header, height, width)
    result = detector.infer([image])
    stages: dict[str, tuple[int, Callable[[], object]]] = {
        "decode": (1, lambda: decode_reduced(data, read_header(data), height, width)),
        "resize": (1, lambda: resize(reduced, height, width)),
        **{f"engine, batch {n}": (n, _engine_call(detector, image, n)) for n in BATCHES},
        "post-processing": (1, lambda: detector.judge(result, 0, image)),
        "PyTorch FP32 eager, batch 1": (1, _eager_call(detector.bundle, image)),
    }
    times = _in_turn({name: call for name, (_, call) in stages.items()}, repeats)
    measured = {name: _stage(times[name], images) for name, (images, _) in stages.items()}
    ratio = measured["engine, batch 1"].median / measured["PyTorch FP32 eager, batch 1"].median
    on_gpu, memory = _on_gpu(detector, image, repeats)
    return Figures({**measured, **on_gpu}, ratio, torch.get_num_threads(), memory)


def side_by_side(detectors: Mapping[str, Detector], repeats: int) -> dict[str, Stage]:
    """Time engines at batch 1, in turn with PyTorch FP32 eager of each of their networks.

    Args:
        detectors: by name; each runs its bundle's golden picture.
        repeats: timed calls of each.

    Returns:
        Figures by name, and PyTorch's by method.
    """
    calls: dict[str, Callable[[], object]] = {}
    for name, detector in detectors.items():
        image = detector.decode(detector.bundle.golden_path.read_bytes())
        calls[name] = _engine_call(detector, image, 1)
        method = detector.bundle.manifest.method
        if method not in calls:
            calls[method] = _eager_call(detector.bundle, image)
    return {name: _stage(times, 1) for name, times in _in_turn(calls, repeats).items()}


def untrained_network(bundle: Bundle) -> InspectionNetwork:
    """The bundle's network as PyTorch has it after training. Speed does not depend on the weights, which are random."""
    architecture = bundle.manifest.teacher.architecture
    options = cast(dict[str, JsonValue], bundle.manifest.training.get("options", {}))
    method = build_method(bundle.manifest.method, build_trunk(architecture, seed=0), architecture, options, seed=1)
    return InspectionNetwork(method).eval()


def cpu_name() -> str:
    """The processor's model."""
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())


def _engine_call(detector: Detector, image: PartImage, batch: int) -> Callable[[], object]:
    images = np.repeat(image.pixels[None], batch, axis=0)
    return lambda: detector.backend.run(images)


def _on_gpu(detector: Detector, image: PartImage, repeats: int) -> tuple[dict[str, Stage], int | None]:
    """What the GPU's own clock says of each batch, without copies; nothing for an engine on the CPU."""
    stages, memory = {}, None
    for count in BATCHES:
        images = np.repeat(image.pixels[None], count, axis=0)
        figures = [detector.backend.on_device(images) for _ in range(_WARM_UP + repeats)]
        known = [one for one in figures[_WARM_UP:] if one is not None]
        if known:
            stages[f"GPU alone, batch {count}"] = _stage(np.array([one.milliseconds for one in known]), count)
            memory = known[-1].memory_bytes
    return stages, memory


def _eager_call(bundle: Bundle, image: PartImage) -> Callable[[], object]:
    grid = bundle.manifest.grid
    pixels = torch.from_numpy(grid.split(image.pixels) if grid else image.pixels[None])
    eager = torch.inference_mode()(untrained_network(bundle))
    return lambda: [eager(part) for part in pixels.split(_EAGER_TILES)]


def _in_turn(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, NDArray[np.float64]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for start in track(range(0, repeats, _BLOCK), "Benchmark"):
        for name, call in calls.items():
            for _ in range(_WARM_UP):
                call()
            for _ in range(min(_BLOCK, repeats - start)):
                began = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - began)
    return {name: np.array(seconds) * 1e3 for name, seconds in times.items()}


def _stage(milliseconds: NDArray[np.float64], images: int) -> Stage:
    median, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    return Stage(float(median), float(p95), float(p99), images * 1e3 / float(median))
