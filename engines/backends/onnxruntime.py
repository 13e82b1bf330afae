"""ONNX Runtime: the independent reference on a CPU. It runs the Q/DQ graph in float32, hence slower than OpenVINO."""

import os

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engines.backends.base import Backend, RawResult
from engines.bundle import Network
from engines.errors import BackendError


class OnnxRuntimeBackend(Backend):
    """One session.

    Args:
        threads: 0 means one per core this process may use. Threads do not spin between runs: on a busy machine that
            costs more than it saves (onnxruntime#26847).

    Raises:
        BackendError: ONNX Runtime refuses the network.
    """

    name = "onnxruntime"

    def __init__(self, network: Network, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(network.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception.
            raise BackendError(f"ONNX Runtime refuses {network.path}: {error}; build the bundle again.") from error
        self._input = network.input.name
        self._names = [network.outputs.maps, network.outputs.scores, network.outputs.embeddings]

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        try:
            maps, scores, embeddings = self._session.run(self._names, {self._input: batch})
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime failed on a batch of shape {batch.shape}: {error}.") from error
        return RawResult(maps, scores, embeddings)
