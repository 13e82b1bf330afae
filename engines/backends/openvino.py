"""OpenVINO: the default on a CPU. Runs the very Q/DQ graph that TensorRT takes on the processor's INT8 units."""

import os
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties as props
import openvino.properties.hint as hints
from numpy.typing import NDArray

from engines.backends.base import Backend, RawResult
from engines.bundle import Network, Precision
from engines.errors import BackendError

_HALF: dict[Precision, tuple[str, ov.Type]] = {"fp16": ("FP16", ov.Type.f16), "bf16": ("BF16", ov.Type.bf16)}


class OpenVinoBackend(Backend):
    """One compiled model a batch size: with fixed shapes a batch of one takes a tenth less time.

    The first run of another batch size compiles for it, some tenths of a second.

    Args:
        threads: 0 means one per core this process may use.
        cache_dir: OpenVINO keeps compiled models there; a start from it takes a fraction of the compilation.

    Raises:
        BackendError: OpenVINO refuses the network.
    """

    name = "openvino"

    def __init__(self, network: Network, threads: int = 0, cache_dir: Path | None = None) -> None:
        self._network = network
        self._core = ov.Core()
        if cache_dir is not None:
            self._core.set_property({props.cache_dir: str(cache_dir)})
        cores = len(os.sched_getaffinity(0))
        threads = threads or cores
        self._config = {
            hints.performance_mode: hints.PerformanceMode.LATENCY,
            hints.inference_precision: self._float_type(),
            hints.num_requests: 1,
            props.inference_num_threads: threads,
            # Pinned, engines that have some of the cores each would all have the same ones: the first.
            hints.enable_cpu_pinning: threads >= cores,
        }
        self._requests = {1: self._compile(1)}

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        size = self._network.input
        if batch.ndim != 4 or batch.shape[1:] != (size.height, size.width, 3):
            raise BackendError(
                f"OpenVINO failed on a batch of shape {batch.shape}; it takes [N, {size.height}, {size.width}, 3]."
            )
        count = len(batch)
        if count not in self._requests:
            self._requests[count] = self._compile(count)
        request = self._requests[count]
        outputs = self._network.outputs
        try:
            request.infer([batch], share_inputs=True)
            names = (outputs.maps, outputs.scores, outputs.embeddings)
            return RawResult(*(request.get_tensor(name).data.copy() for name in names))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on a batch of shape {batch.shape}: {_reason(error)}.") from error

    def _float_type(self) -> ov.Type:
        """float32 unless the bundle asks for a half type that the processor has.

        OpenVINO by itself would take bf16 for float32, and for fp16 on a processor without it, at ten times the error.
        """
        capability, kind = _HALF.get(self._network.precision, ("", ov.Type.f32))
        return kind if capability in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else ov.Type.f32

    def _compile(self, count: int) -> ov.InferRequest:
        size = self._network.input
        try:
            model = self._core.read_model(self._network.path)
            model.reshape({self._network.input.name: [count, size.height, size.width, 3]})
            return self._core.compile_model(model, "CPU", self._config).create_infer_request()
        except RuntimeError as error:
            raise BackendError(
                f"OpenVINO refuses {self._network.path}: {_reason(error)}; build the bundle again."
            ) from error


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
