"""Equalization changes no result, and evens the channels' ranges."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, helper

from build_engines.export import INPUT
from build_engines.quantization import qdq
from build_engines.quantization.calibration import channel_ranges
from build_engines.quantization.equalization import equalize, streams
from engines.bundle import MODEL


@pytest.fixture(scope="module")
def model(float_bundle_folder: Path) -> ModelProto:
    return onnx.load(float_bundle_folder / MODEL)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)


def run(model: ModelProto, images: np.ndarray, names: list[str]) -> list[np.ndarray]:
    known = {output.name for output in model.graph.output}
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(names, {INPUT: images}))


def test_the_float_network_still_computes_the_same(model: ModelProto, images: np.ndarray) -> None:
    ranges = channel_ranges(model, qdq.place(model).tensors, images)
    for before, after in zip(
        run(model, images, ["maps", "scores", "embeddings"]),
        run(equalize(model, ranges, strength=1.0), images, ["maps", "scores", "embeddings"]),
        strict=True,
    ):
        np.testing.assert_allclose(after, before, rtol=2e-3, atol=1e-6)


def test_channels_reach_like_ranges(model: ModelProto, images: np.ndarray) -> None:
    tensors = qdq.place(model).tensors
    ranges = channel_ranges(model, tensors, images)
    evened = channel_ranges(equalize(model, ranges, strength=1.0), tensors, images)
    inside = next(name for name in tensors if "layer1.0/relu/Relu" in name)
    alive = ranges[inside] > 0.02 * ranges[inside].max()
    assert ranges[inside][alive].max() / ranges[inside][alive].min() > 1.5
    np.testing.assert_allclose(evened[inside][alive], ranges[inside].max(), rtol=1e-3)


def test_residual_streams_stay_together(model: ModelProto) -> None:
    """A trunk has three streams and the inside of six blocks; two of them are teacher and student."""
    found = streams(model)
    assert len(found) == 2 * (3 + 6)
    assert all(len({side(name) for name in stream}) == 1 for stream in found)


def side(name: str) -> str:
    """Teacher or student, by a tensor's name."""
    named = {"targets": "teacher", "features": "student"}
    return named[name.split(".")[0]] if "/" not in name else name.split("/")[2]
