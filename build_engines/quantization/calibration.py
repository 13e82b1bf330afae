"""Scales of activations, from what they do on calibration images."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, helper
from rich.progress import track

from build_engines.export import INPUT

# int8 with zero point 0: the largest integer on both sides.
LARGEST = 127.0
# A tensor that is zero on all calibration images still needs a positive scale.
_SMALLEST_RANGE = 1e-6
_BATCH = 4


class Calibrator(ABC):
    """Watches one tensor and decides the largest magnitude that is kept."""

    @abstractmethod
    def observe(self, values: NDArray[np.float32]) -> None:
        """See the tensor's values for one batch, of any shape."""

    @abstractmethod
    def range(self) -> float:
        """The magnitude that becomes 127, >= 0."""


class MinMax(Calibrator):
    """The largest magnitude seen: nothing is clipped that a calibration image holds."""

    def __init__(self) -> None:
        self._largest = 0.0

    def observe(self, values: NDArray[np.float32]) -> None:
        self._largest = max(self._largest, float(np.abs(values).max()))

    def range(self) -> float:
        return self._largest


CALIBRATORS: dict[str, type[Calibrator]] = {"minmax": MinMax}


def calibrate(
    model: ModelProto, tensors: Sequence[str], images: NDArray[np.uint8], calibrator: str
) -> dict[str, np.float32]:
    """Run a float graph on images and give each tensor's scale, float32 > 0.

    Args:
        model: the float32 graph.
        tensors: names of activations.
        images: uint8 [N, H, W, 3].
        calibrator: one of `CALIBRATORS`.
    """
    watched = ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in known)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    observers = {name: CALIBRATORS[calibrator]() for name in tensors}
    for batch in track(list(_batches(images)), "Calibration"):
        for name, values in zip(tensors, session.run(list(tensors), {INPUT: batch}), strict=True):
            observers[name].observe(values)
    return {name: np.float32(max(seen.range(), _SMALLEST_RANGE) / LARGEST) for name, seen in observers.items()}


def _batches(images: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
