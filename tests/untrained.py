"""Every method's graph with random weights, exported and quantized by the project itself in a second or two."""

from functools import cache

import numpy as np
from onnx import ModelProto

from build_engines.export import Exported, to_onnx
from build_engines.methods import METHODS, build_method
from build_engines.networks.inspection import InspectionNetwork
from build_engines.networks.resnet import build_trunk
from build_engines.quantization import equalization, qdq
from build_engines.quantization.calibration import channel_ranges, observe, scales_of

ARCHITECTURE, SIZE = "resnet18_half", 64
NAMES = sorted(METHODS)


@cache
def exported(method: str, size: int = SIZE) -> Exported:
    """The float32 graph and what it takes and gives."""
    network = build_method(method, build_trunk(ARCHITECTURE, seed=1), ARCHITECTURE, {}, 2)
    return to_onnx(InspectionNetwork(network), size)


@cache
def pixels(size: int = SIZE) -> np.ndarray:
    """Three images of noise."""
    return np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.uint8)


@cache
def quantized(method: str, size: int = SIZE) -> ModelProto:
    """The INT8 graph of a bundle."""
    floating = exported(method, size).model
    ranges = channel_ranges(floating, qdq.place(floating).tensors, pixels(size))
    equalized = equalization.equalize(floating, ranges)
    placement = qdq.place(equalized)
    return qdq.insert(equalized, placement, scales_of(observe(equalized, placement.tensors, pixels(size)), "minmax"))
