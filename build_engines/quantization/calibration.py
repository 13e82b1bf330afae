"""Scales of activations, from what they do on calibration images."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, helper
from rich.progress import track

from build_engines.export import INPUT
from build_engines.quantization.calibrators import CALIBRATORS
from build_engines.quantization.histogram import Histogram
from build_engines.quantization.integers import largest_integer
from engines.onnx_graph import copied

# A tensor that is zero on all calibration images still needs a positive scale.
_SMALLEST_RANGE = 1e-6
_BATCH = 4


def observe(model: ModelProto, tensors: Sequence[str], images: NDArray[np.uint8]) -> dict[str, Histogram]:
    """Run a float graph on images once; any calibrator takes its ranges from what comes back.

    Args:
        model: the float32 graph.
        tensors: names of activations.
        images: uint8 [N, H, W, 3].
    """
    seen = {name: Histogram() for name in tensors}
    for batch in activations(model, tensors, images, "Calibration"):
        for name, values in batch.items():
            seen[name].observe(values)
    return seen


def scales_of(seen: Mapping[str, Histogram], calibrator: str, bits: int = 8) -> dict[str, np.float32]:
    """Each tensor's scale, float32 > 0, with the range that `calibrator` of `CALIBRATORS` chooses."""
    most = largest_integer(bits)
    choose_range = CALIBRATORS[calibrator]
    return {name: np.float32(max(choose_range(one, most), _SMALLEST_RANGE) / most) for name, one in seen.items()}


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
    watched = copied(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in known)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for start in track(range(0, len(images), _BATCH), what):
        values = session.run(list(tensors), {INPUT: images[start : start + _BATCH]})
        yield dict(zip(tensors, values, strict=True))
