"""TensorRT and TensorRT-RTX: the GPU's backend. It runs plans that `engines.compile` has made for this very device."""

import logging
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from engines.backends.base import Backend, DeviceFigures, LibraryName, RawResult
from engines.backends.cuda import Device, why_no_gpu
from engines.backends.tensorrt_library import Library, module_name
from engines.backends.tensorrt_runner import Runner, TensorRtOptions
from engines.bundle import Network
from engines.errors import BackendError, EngineFailed, NoPlan
from engines.files import sha256_of
from engines.plan_records import PlanKey, Profile, plan_precision
from engines.plans import PlanStore, plans_folder

_REPEATS = 10
_LEVELS = {"INTERNAL_ERROR": logging.ERROR, "ERROR": logging.ERROR, "WARNING": logging.WARNING}
_log = logging.getLogger(__name__)


def why_unusable(library: LibraryName = "tensorrt") -> str | None:
    """The reason why `auto` passes TensorRT by on this machine; None where it is usable."""
    missing = [] if module_name(library) else [f"{library} not installed"]
    if reason := why_no_gpu():
        missing.append(reason)
    if missing:
        return " and ".join(missing)
    try:
        Library(library)
    except BackendError as error:
        return str(error).rstrip(".")
    return None


def open_tensorrt(
    network: Network, library: LibraryName, cache_dir: Path | None, options: TensorRtOptions | None = None
) -> "TensorRtBackend":
    """Open the plan that was compiled last for this network on this device.

    Raises:
        BackendError: TensorRT or a GPU is missing, or refuses the plan.
        NoPlan: none is stored that fits.
    """
    reason = why_unusable(library)
    if reason is not None:
        raise BackendError(f"TensorRT cannot run {network.path} here ({reason}); choose the backend openvino or auto.")
    loaded = Library(library, lambda severity, message: _log.log(_LEVELS.get(severity, logging.DEBUG), message))
    device = Device()
    try:
        key = PlanKey(
            onnx_sha256=network.sha256 or sha256_of(network.path),
            library=library,
            version=loaded.version,
            compute_capability=device.compute_capability,
            precision=plan_precision(network.precision),
            profile=Profile(),
        )
        found = PlanStore(plans_folder(network, cache_dir)).latest(key)
        if found.plan is None:
            raise NoPlan(
                f"There is no plan of {network.path} for {device.name} ({found.reason}); compile one with python -m "
                f"engines.compile {network.path.parent} --backend {library}{_option(cache_dir)}."
            )
        return TensorRtBackend(
            network, loaded, device, found.plan.path.read_bytes(), found.plan.record.key.profile.largest, options
        )
    except BaseException:
        device.close()
        raise


class TensorRtBackend(Backend):
    """A plan on the GPU. Created, used and closed by one thread; another one opens its own.

    Larger batches than the plan takes are split.

    Args:
        device: becomes the backend's, which closes it.
        plan: compiled from this network on this device.
        largest: batch that it takes.

    Raises BackendError where the library refuses the plan, it is of another network, or memory does not suffice.
    """

    def __init__(
        self,
        network: Network,
        library: Library,
        device: Device,
        plan: bytes,
        largest: int,
        options: TensorRtOptions | None = None,
    ) -> None:
        self.name = library.name
        self.largest_batch = largest
        self._network, self._library, self._device = network, library, device
        self._failure: str | None = None
        chosen = options or TensorRtOptions()
        with device:
            free = device.free_bytes
            self._engine = library.load(plan)
            Runner.check(library, self._engine, network)
            self._runner = self._open_runner(largest, chosen)
            self._memory_bytes = max(0, free - device.free_bytes)

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        size = self._network.input
        if batch.ndim != 4 or batch.shape[1:] != (size.height, size.width, 3) or not len(batch):
            raise BackendError(
                f"TensorRT failed on a batch of shape {batch.shape}; it takes [N, {size.height}, {size.width}, 3]."
            )
        if self._failure is not None:
            raise EngineFailed(self._failure)
        largest = self._runner.largest
        try:
            with self._device:
                results = [self._runner.run(batch[start : start + largest]) for start in range(0, len(batch), largest)]
        except EngineFailed as error:
            self._failure = str(error)
            raise
        return results[0] if len(results) == 1 else RawResult.joined(results)

    def on_device(self, batch: NDArray[np.uint8]) -> DeviceFigures | None:
        largest = self._runner.largest
        with self._device:
            milliseconds = [
                self._runner.milliseconds(batch[start : start + largest]) for start in range(0, len(batch), largest)
            ]
        return DeviceFigures(sum(milliseconds), self._memory_bytes)

    def layer_information(self) -> str:
        """What each layer of the plan is and how it computes, as JSON."""
        with self._device:
            return self._library.layer_information(self._engine)

    def release(self) -> None:
        """Give all back but the device itself."""
        with self._device:
            self._runner.close()
            del self._runner, self._engine

    def close(self) -> None:
        self.release()
        self._device.close()

    def _open_runner(self, largest: int, options: TensorRtOptions) -> Runner:
        def opened(mapped: bool) -> Runner:
            return Runner(
                self._library, self._engine, self._device, self._network, largest, mapped, options.cuda_graphs
            )

        if options.mapped is not None or not self._device.integrated:
            return opened(bool(options.mapped))
        copying, mapping = opened(False), opened(True)
        slower, faster = sorted((copying, mapping), key=self._seconds, reverse=True)
        slower.close()
        return faster

    def _seconds(self, runner: Runner) -> float:
        size = self._network.input
        batch = np.zeros((1, size.height, size.width, 3), np.uint8)
        seconds = []
        for _ in range(_REPEATS):
            began = perf_counter()
            runner.run(batch)
            seconds.append(perf_counter() - began)
        return median(seconds)


def _option(cache_dir: Path | None) -> str:
    return "" if cache_dir is None else f" --cache-dir {cache_dir}"
