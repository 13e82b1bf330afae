"""What holds for every method: its graph, exported and quantized, keeps the rules and computes what PyTorch does."""

from functools import cache

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto

from build_engines.export import to_onnx
from build_engines.methods import METHODS, build_method
from build_engines.networks.inspection import InspectionNetwork
from build_engines.networks.resnet import build_trunk
from build_engines.quantization import equalization, qdq
from build_engines.quantization.calibration import channel_ranges, observe, scales_of
from engines import lint
from engines.tensorrt_form import for_tensorrt

ARCHITECTURE, SIZE = "resnet18_half", 64
CASES = [(name, {}) for name in sorted(METHODS)] + [
    ("rd", {"map": "paper"}),
    ("dcam", {"map": "paper", "attention": "both"}),
    ("us", {"dense_stride": 1, "receptive_fields": [17, 65]}),
    ("us", {"dense_stride": 2}),
]


@cache
def network(case: int) -> InspectionNetwork:
    name, options = CASES[case]
    method = build_method(name, build_trunk(ARCHITECTURE, seed=1), ARCHITECTURE, options, 2)
    return InspectionNetwork(method).eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_exported_graph_computes_what_pytorch_does(case: int, pixels: np.ndarray) -> None:
    with torch.no_grad():
        expected = network(case)(torch.from_numpy(pixels))
    found = results(to_onnx(network(case), SIZE).model, pixels)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-3, atol=1e-3 * np.abs(other.numpy()).max())


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_int8_graph_keeps_tensorrts_rules_in_both_forms(case: int, pixels: np.ndarray) -> None:
    floating = to_onnx(network(case), SIZE).model
    tensors = qdq.place(floating).tensors
    equalized = equalization.equalize(floating, channel_ranges(floating, tensors, pixels))
    placement = qdq.place(equalized)
    assert len(placement.layers) == sum(node.op_type in ("Conv", "ConvTranspose") for node in floating.graph.node)
    scales = scales_of(observe(equalized, placement.tensors, pixels), "minmax")
    written = qdq.insert(equalized, placement, scales)
    assert lint.lint(floating, "bundle") == []
    assert lint.lint(written, "bundle") == []
    assert lint.lint(for_tensorrt(written), "tensorrt") == []
    assert written.ByteSize() < floating.ByteSize() / 2


@pytest.mark.parametrize("case", range(len(CASES)))
def test_equalization_leaves_the_float_graph_as_it_is(case: int, pixels: np.ndarray) -> None:
    floating = to_onnx(network(case), SIZE).model
    ranges = channel_ranges(floating, qdq.place(floating).tensors, pixels)
    pairs = zip(results(equalization.equalize(floating, ranges), pixels), results(floating, pixels), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * np.abs(other).max())


def results(model: ModelProto, pixels: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": pixels})
