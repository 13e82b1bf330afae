"""What may be FP16 and what may not, and that numbers beyond FP16's range then harm nothing."""

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from engines import onnx_graph as graph
from engines.half_precision import HEADROOM, LARGEST, head, in_half, magnitudes, near_the_end, trunk
from engines.tensorrt_form import for_tensorrt
from tests import untrained


def read_by_head(model: ModelProto) -> set[str]:
    """The tensors that the head takes from the trunk."""
    behind, ahead, readers = head(model), trunk(model), graph.consumers(model)
    return {name for name in ahead if any(node.output[0] in behind for node in readers.get(name, []))}


@pytest.mark.parametrize("method", [name for name in untrained.NAMES if name != "us"])
@pytest.mark.parametrize("precision", ["float", "int8"])
def test_the_head_begins_at_the_compared_features(method: str, precision: str) -> None:
    exported = untrained.exported(method)
    model = exported.model if precision == "float" else for_tensorrt(untrained.quantized(method))
    # Equalization gives the head the features as they were before it.
    begins = {re.sub(r"_restored$", "", name) for name in read_by_head(model)}
    assert begins == {*exported.targets, *exported.features}


def test_the_head_of_uninformed_students_begins_at_their_last_convolutions() -> None:
    """Descriptors are normalised behind the teacher's last one."""
    exported = untrained.exported("us")
    descriptor = "/method/student.0/teacher/describe/Conv_output_0"
    assert read_by_head(exported.model) == {descriptor, *exported.features}


@pytest.mark.parametrize("method", untrained.NAMES)
def test_outputs_and_all_that_reduces_are_in_the_head_and_convolutions_are_not(method: str) -> None:
    model = untrained.exported(method).model
    behind, ahead = head(model), trunk(model)
    assert {output.name for output in model.graph.output} <= behind
    kinds = {name: node.op_type for node in model.graph.node for name in node.output}
    assert {kinds[name] for name in behind} & {"Conv", "MaxPool", "DepthToSpace"} == set()
    assert {name for name, kind in kinds.items() if kind.startswith("Reduce") or kind in ("Div", "Sqrt")} <= behind
    assert {name for name, kind in kinds.items() if kind in ("Conv", "Relu", "MaxPool", "DepthToSpace")} <= ahead


@pytest.mark.parametrize("method", untrained.NAMES)
def test_the_fp16_graph_is_valid_and_computes_nearly_the_same(method: str) -> None:
    floating = untrained.exported(method).model
    half = in_half(floating)
    onnx.checker.check_model(half, full_check=True)
    weights = [graph.initializers(half)[node.input[1]].data_type for node in half.graph.node if node.op_type == "Conv"]
    assert set(weights) == {TensorProto.FLOAT16}
    found, expected = (run(model, untrained.pixels()) for model in (half, floating))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).mean() < 0.02 * np.abs(other).mean()


def test_lengths_that_overflow_fp16_harm_nothing_behind_the_features() -> None:
    """The cause of the loss: the very same network computed in FP16 to its end gives no number."""
    model = distance_of_features(channels=64, strength=40.0)
    image = np.full((1, 4, 4, 3), 200, np.uint8)
    (expected,) = ReferenceEvaluator(model).run(None, {"images": image})
    (found,) = ReferenceEvaluator(in_half(model)).run(None, {"images": image})
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert expected.max() > 0.01
    with np.errstate(all="ignore"):
        (lost,) = ReferenceEvaluator(all_in_half(model)).run(None, {"images": image})
    assert not np.isfinite(lost).any()


def test_an_epsilon_below_fp16_harms_nothing_where_there_are_no_features() -> None:
    model = distance_of_features(channels=8, strength=0.0)
    image = np.zeros((1, 4, 4, 3), np.uint8)
    assert np.isfinite(ReferenceEvaluator(in_half(model)).run(None, {"images": image})[0]).all()
    with np.errstate(all="ignore"):
        assert not np.isfinite(ReferenceEvaluator(all_in_half(model)).run(None, {"images": image})[0]).any()


def test_tensors_that_come_near_the_end_stay_float32() -> None:
    model = distance_of_features(channels=4, strength=LARGEST / HEADROOM)
    seen = magnitudes(model, np.full((1, 4, 4, 3), 255, np.uint8))
    near = near_the_end(seen)
    assert near == {"teacher", "student", "teacher_features", "student_features"}
    kept = in_half(model, near)
    kinds = {node.output[0]: node for node in kept.graph.node}
    assert kinds["teacher"].input[0] == "planes"
    assert {tensor.data_type for tensor in kept.graph.initializer} == {TensorProto.FLOAT, TensorProto.INT64}
    assert near_the_end({"weak": 1.0, "strong": 3e3, "broken": float("nan")}) == {"strong", "broken"}


def test_weights_that_fp16_cannot_hold_stay_float32() -> None:
    kept = in_half(distance_of_features(channels=4, strength=2000 * LARGEST))
    kinds = {tensor.name: tensor.data_type for tensor in kept.graph.initializer}
    assert kinds["teacher_weight"] == kinds["student_weight"] == TensorProto.FLOAT


def test_each_tensor_is_converted_once() -> None:
    casts = [node.input[0] for node in in_half(untrained.exported("rd").model).graph.node if node.op_type == "Cast"]
    assert len(casts) == len(set(casts)) == 2 + 6


def distance_of_features(channels: int, strength: float) -> ModelProto:
    """1 - cosine of two convolutions' features, as the methods here have it; each feature is about `strength`."""
    random = np.random.default_rng(0)
    shape = (channels, 3, 1, 1)
    weights = [(strength / 255 / 3 * random.uniform(0.5, 1.5, shape)).astype(np.float32) for _ in range(2)]
    constants = [
        numpy_helper.from_array(weights[0], "teacher_weight"),
        numpy_helper.from_array(weights[1], "student_weight"),
        numpy_helper.from_array(np.float32(1e-12), "epsilon"),
        numpy_helper.from_array(np.float32(1), "one"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    make = helper.make_node
    nodes = [
        make("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        make("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        *(make("Conv", ["planes", f"{side}_weight"], [side]) for side in ("teacher", "student")),
        *(make("Relu", [side], [f"{side}_features"]) for side in ("teacher", "student")),
    ]
    for side in ("teacher", "student"):
        features = f"{side}_features"
        nodes += [
            make("Mul", [features, features], [f"{side}_squares"]),
            make("ReduceSum", [f"{side}_squares", "axis"], [f"{side}_sum"], keepdims=0),
            make("Add", [f"{side}_sum", "epsilon"], [f"{side}_length"]),
        ]
    nodes += [
        make("Mul", ["teacher_features", "student_features"], ["products"]),
        make("ReduceSum", ["products", "axis"], ["product"], keepdims=0),
        make("Mul", ["teacher_length", "student_length"], ["lengths"]),
        make("Sqrt", ["lengths"], ["length"]),
        make("Div", ["product", "length"], ["cosine"]),
        make("Sub", ["one", "cosine"], ["maps"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 4, 4, 3])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", 4, 4])
    made = helper.make_graph(nodes, "distance", [images], [maps], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def all_in_half(model: ModelProto) -> ModelProto:
    """Every number in FP16, the head's as well."""
    copy = graph.copied(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    copy.graph.node[0].attribute[0].i = TensorProto.FLOAT16
    copy.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return copy


def run(model: ModelProto, pixels: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": pixels})
