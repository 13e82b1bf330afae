"""ONNX Runtime: the independent reference on a CPU. It runs the Q/DQ graph in float32, hence slower than OpenVINO."""

import os

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engines.backends.base import Backend, RawResult
from engines.bundle import Bundle
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

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        manifest = bundle.manifest
        try:
            self._session = ort.InferenceSession(str(bundle.model_path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception.
            raise BackendError(f"ONNX Runtime refuses {bundle.model_path}: {error}; build the bundle again.") from error
        self._input = manifest.input.name
        self._names = [manifest.outputs.maps, manifest.outputs.scores, manifest.outputs.embeddings]

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        try:
            maps, scores, embeddings = self._session.run(self._names, {self._input: batch})
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime failed on a batch of shape {batch.shape}: {error}.") from error
        return RawResult(maps, scores, embeddings)
