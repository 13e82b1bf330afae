"""Fine-tuning inside the exported graph: PyTorch computes what the graph computes, rounding included."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper

from build_engines.batches import TrainingBatches
from build_engines.export import Exported, to_onnx
from build_engines.methods import METHODS, build_method
from build_engines.methods.base import Method
from build_engines.networks.inspection import InspectionNetwork
from build_engines.networks.resnet import build_trunk
from build_engines.quantization import equalization, fine_tuning, qdq
from build_engines.quantization.calibration import channel_ranges, observe, scales_of
from build_engines.quantization.torch_graph import TorchGraph
from build_engines.recipe import Recipe

ARCHITECTURE, SIZE = "resnet18_half", 64


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3)).astype(np.uint8)


def built(name: str) -> tuple[Method, Exported]:
    options = {"dense_stride": 2} if name == "us" else {}
    method = build_method(name, build_trunk(ARCHITECTURE, seed=1), ARCHITECTURE, options, 2)
    return method, to_onnx(InspectionNetwork(method), SIZE)


def run_in_onnxruntime(model: ModelProto, names: tuple[str, ...], pixels: np.ndarray) -> list[np.ndarray]:
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(names), {"images": pixels})


@pytest.mark.parametrize("name", sorted(METHODS))
def test_float_graph_gives_the_exported_numbers(name: str, pixels: np.ndarray) -> None:
    _, exported = built(name)
    names = (*exported.targets, *exported.features)
    with torch.no_grad():
        found = TorchGraph(exported.model, names, ())(torch.from_numpy(pixels))
    for one, expected in zip(found, run_in_onnxruntime(exported.model, names, pixels), strict=True):
        np.testing.assert_allclose(one.numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_rounding_is_that_of_the_written_graph(name: str, pixels: np.ndarray) -> None:
    _, exported = built(name)
    # The first convolutions alone: further in, one value rounded the other way has moved thousands.
    placement = qdq.place(exported.model)
    scales = scales_of(observe(exported.model, placement.tensors, pixels), "minmax")
    made_by = {node.output[0]: node for node in exported.model.graph.node}
    names = tuple(node.output[0] for node in made_by.values() if node.name in placement.layers)[:3]
    written = run_in_onnxruntime(qdq.insert(exported.model, placement, scales), names, pixels)
    exact = run_in_onnxruntime(exported.model, names, pixels)
    with torch.no_grad():
        found = TorchGraph(exported.model, names, (), fine_tuning.Rounding(placement, scales))(torch.from_numpy(pixels))
    for one, expected, unrounded in zip(found, written, exact, strict=True):
        error, rounding = (np.abs(one.numpy() - expected).mean(), np.abs(unrounded - expected).mean())
        assert error < 0.2 * rounding


@pytest.mark.parametrize("name", sorted(METHODS))
def test_an_equalized_graph_is_compared_in_the_float_graphs_units(name: str, pixels: np.ndarray) -> None:
    method, exported = built(name)
    tensors = qdq.place(exported.model).tensors
    model = equalization.equalize(exported.model, channel_ranges(exported.model, tensors, pixels), strength=1.0)
    losses = [loss_of(one, exported, method, pixels) for one in (exported.model, model)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_only_the_student_changes_and_its_loss_falls(name: str, pixels: np.ndarray, tmp_path: Path) -> None:
    method, exported = built(name)
    tuned = fine_tuned(exported, method, pixels, tmp_path, epochs=3)
    before, after = (weights_by_layer(model) for model in (exported.model, tuned))
    for layer, weights in before.items():
        is_trained = "student" in layer and "/teacher/" not in layer
        assert np.array_equal(weights, after[layer]) is not is_trained, layer
    assert loss_of(tuned, exported, method, pixels) < loss_of(exported.model, exported, method, pixels)


def test_an_interrupted_fine_tuning_is_taken_up(
    pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, exported = built("stfpm")
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    whole = fine_tuned(exported, method, pixels, tmp_path / "whole", epochs=2)
    compare, calls = type(method).compare, []

    def interrupted(self: Method, targets: object, features: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compare(self, targets, features)

    monkeypatch.setattr(type(method), "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fine_tuned(exported, method, pixels, tmp_path / "cut", epochs=2)
    resumed = fine_tuned(exported, method, pixels, tmp_path / "cut", epochs=2)
    assert len(calls) == 5
    for layer, weights in weights_by_layer(whole).items():
        np.testing.assert_array_equal(weights, weights_by_layer(resumed)[layer])


def fine_tuned(exported: Exported, method: Method, pixels: np.ndarray, folder: Path, epochs: int) -> ModelProto:
    placement = qdq.place(exported.model)
    scales = scales_of(observe(exported.model, placement.tensors, pixels), "minmax")
    return fine_tuning.fine_tuned(
        exported,
        exported.model,
        method,
        batches(method, pixels),
        epochs,
        folder,
        {},
        fine_tuning.Rounding(placement, scales),
    )


def batches(method: Method, pixels: np.ndarray) -> TrainingBatches:
    settings = Recipe(method=method.name, batch_size=3, image_size=SIZE, corruption=0.5).settings()
    return TrainingBatches(pixels, np.arange(len(pixels)), settings)


def loss_of(model: ModelProto, exported: Exported, method: Method, pixels: np.ndarray) -> float:
    names = equalization.restored(model, (*exported.targets, *exported.features))
    with torch.no_grad():
        found = TorchGraph(model, names, ())(torch.from_numpy(pixels))
        return method.compare(found[: len(exported.targets)], found[len(exported.targets) :]).item()


def weights_by_layer(model: ModelProto) -> dict[str, np.ndarray]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.name: constants[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}
