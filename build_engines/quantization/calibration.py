"""Scales of activations, from what they do on calibration images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

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
    observers = {name: CALIBRATORS[calibrator]() for name in tensors}
    for batch in activations(model, tensors, images, "Calibration"):
        for name, values in batch.items():
            observers[name].observe(values)
    return {name: np.float32(max(seen.range(), _SMALLEST_RANGE) / LARGEST) for name, seen in observers.items()}


def channel_ranges(
    model: ModelProto, tensors: Sequence[str], images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude of each channel [C] of each activation [N, C, H, W], over all images."""
    largest: dict[str, NDArray[np.float32]] = {}
    for batch in activations(model, tensors, images, "Channel ranges"):
        for name, values in batch.items():
            seen = np.abs(values).max(axis=(0, 2, 3))
            largest[name] = np.maximum(largest[name], seen) if name in largest else seen
    return largest


def activations(
    model: ModelProto, tensors: Sequence[str], images: NDArray[np.uint8], what: str
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Run a graph in float32 and give the named tensors, a batch at a time. Shows progress."""
    watched = ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in known)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for start in track(range(0, len(images), _BATCH), what):
        values = session.run(list(tensors), {INPUT: images[start : start + _BATCH]})
        yield dict(zip(tensors, values, strict=True))
