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

# OpenVINO takes bf16 by itself where the processor has it; fp32 and int8 bundles promise float32 for all floats.
_FLOAT_TYPE: dict[Precision, ov.Type] = {
    "fp32": ov.Type.f32,
    "int8": ov.Type.f32,
    "fp16": ov.Type.f16,
    "bf16": ov.Type.bf16,
}


class OpenVinoBackend(Backend):
    """One compiled model and one inference request.

    Args:
        threads: 0 means one per core this process may use.
        cache_dir: OpenVINO keeps the compiled model there; a start from it takes a fraction of the compilation.

    Raises:
        BackendError: OpenVINO refuses the network.
    """

    name = "openvino"

    def __init__(self, network: Network, threads: int = 0, cache_dir: Path | None = None) -> None:
        core = ov.Core()
        config = {
            hints.performance_mode: hints.PerformanceMode.LATENCY,
            hints.inference_precision: _FLOAT_TYPE[network.precision],
            hints.num_requests: 1,
            props.inference_num_threads: threads or len(os.sched_getaffinity(0)),
        }
        if cache_dir is not None:
            core.set_property({props.cache_dir: str(cache_dir)})
        outputs = network.outputs
        try:
            self._request = core.compile_model(network.path, "CPU", config).create_infer_request()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO refuses {network.path}: {_reason(error)}; build the bundle again.") from error
        self._names = (outputs.maps, outputs.scores, outputs.embeddings)

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        try:
            self._request.infer([batch], share_inputs=True)
            return RawResult(*(self._request.get_tensor(name).data.copy() for name in self._names))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on a batch of shape {batch.shape}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
