"""Each rule of TensorRT 8.5, with a graph that breaks it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines import lint
from engines import onnx_graph as graph
from engines.bundle import MODEL
from engines.errors import GraphError
from engines.tensorrt_form import for_tensorrt


@pytest.fixture
def model(bundle_folder: Path) -> ModelProto:
    return for_tensorrt(onnx.load(bundle_folder / MODEL))


def first(model: ModelProto, kind: str, **where: str) -> NodeProto:
    return next(n for n in model.graph.node if n.op_type == kind and all(where[k] in getattr(n, k) for k in where))


def producer(model: ModelProto, tensor: str) -> NodeProto:
    return graph.producers(model)[tensor]


def constant(model: ModelProto, name: str, values: np.ndarray | np.generic) -> str:
    model.graph.initializer.append(graph.scalar_or_vector(name, values))
    return name


def opset_18(model: ModelProto) -> None:
    model.opset_import[0].version = 18


def foreign_domain(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def layer_normalization(model: ModelProto) -> None:
    scale = constant(model, "norm_scale", np.ones(1, np.float32))
    model.graph.node.append(helper.make_node("LayerNormalization", ["embeddings", scale], ["more"], name="norm"))


def double_constant(model: ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("Cast", [constant(model, "exact", np.float64(1))], ["more"], name="more", to=TensorProto.FLOAT)
    )


def axes_from_a_node(model: ModelProto) -> None:
    axes = constant(model, "axes_made", np.array([1], np.int64))
    model.graph.node.insert(0, helper.make_node("Identity", [axes], ["axes_computed"], name="axes"))
    first(model, "ReduceSum").input[1] = "axes_computed"


def float_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def dynamic_height(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def fixed_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", 1]))


def input_in_halves(model: ModelProto) -> None:
    next(a for a in first(model, "Cast").attribute if a.name == "to").i = TensorProto.FLOAT16


def input_read_twice(model: ModelProto) -> None:
    images = model.graph.input[0].name
    model.graph.node.append(helper.make_node("Cast", [images], ["again"], name="again", to=TensorProto.FLOAT))


def wrong_transpose(model: ModelProto) -> None:
    next(a for a in first(model, "Transpose").attribute if a.name == "perm").ints[:] = [0, 3, 2, 1]


def no_transpose(model: ModelProto) -> None:
    node = first(model, "Transpose")
    node.op_type = "Identity"
    del node.attribute[:]


def scale_from_a_node(model: ModelProto) -> None:
    node = first(model, "QuantizeLinear", name="Mul_output")
    model.graph.node.insert(0, helper.make_node("Identity", [node.input[1]], ["scale_computed"], name="scale"))
    node.input[1] = "scale_computed"


def missing_zero_point(model: ModelProto) -> None:
    del first(model, "QuantizeLinear").input[2]


def zero_point_not_zero(model: ModelProto) -> None:
    node = first(model, "QuantizeLinear", name="Mul_output")
    node.input[2] = constant(model, "three", np.int8(3))


def uint8_activation(model: ModelProto) -> None:
    node = first(model, "QuantizeLinear", name="Mul_output")
    follower = next(n for n in model.graph.node if n.input and n.input[0] == node.output[0])
    node.input[2] = follower.input[2] = constant(model, "unsigned", np.uint8(0))


def negative_scale(model: ModelProto) -> None:
    node = first(model, "QuantizeLinear", name="Mul_output")
    node.input[1] = constant(model, "negative", np.float32(-1))


def activation_per_channel(model: ModelProto) -> None:
    node = first(model, "QuantizeLinear", name="Mul_output")
    node.input[1] = constant(model, "scales", np.ones(3, np.float32))
    node.input[2] = constant(model, "zeros", np.zeros(3, np.int8))


def integers_read_twice(model: ModelProto) -> None:
    node = first(model, "QuantizeLinear", name="Mul_output")
    model.graph.node.append(helper.make_node("Cast", [node.output[0]], ["more"], name="more", to=TensorProto.FLOAT))


def dequantized_from_nowhere(model: ModelProto) -> None:
    node = first(model, "DequantizeLinear", name="Mul_output")
    node.input[0] = model.graph.input[0].name


def another_scale_back(model: ModelProto) -> None:
    node = first(model, "DequantizeLinear", name="Mul_output")
    node.input[1] = constant(model, "other", np.float32(0.5))


def another_axis_back(model: ModelProto) -> None:
    dequantize = producer(model, first(model, "Conv").input[1])
    next(a for a in producer(model, dequantize.input[0]).attribute if a.name == "axis").i = 1


def float_weights(model: ModelProto) -> None:
    node = first(model, "Conv")
    node.input[1] = producer(model, node.input[1]).input[0].replace("_quantized", "_float")


def weights_per_tensor(model: ModelProto) -> None:
    node = first(model, "Conv")
    dequantize = producer(model, node.input[1])
    quantize = producer(model, dequantize.input[0])
    scale, zero = constant(model, "one", np.float32(1)), constant(model, "nought", np.int8(0))
    for one in (quantize, dequantize):
        one.input[1], one.input[2] = scale, zero


def transposed_weights_per_channel(model: ModelProto) -> None:
    first(model, "Conv").op_type = "ConvTranspose"


def bias_from_a_node(model: ModelProto) -> None:
    node = first(model, "Conv")
    model.graph.node.insert(0, helper.make_node("Identity", [node.input[2]], ["bias_computed"], name="bias"))
    node.input[2] = "bias_computed"


def half_bias(model: ModelProto) -> None:
    bias = graph.initializers(model)[first(model, "Conv").input[2]]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias).astype(np.float16), bias.name))


def residual_in_float(model: ModelProto) -> None:
    node = first(model, "Add", name="layer1.0")
    node.input[1] = node.input[1].removesuffix("_dequantized")


def quantized_between_convolution_and_add(model: ModelProto) -> None:
    node = first(model, "Add", name="layer1.0")
    scale, zero = constant(model, "scale_between", np.float32(1)), constant(model, "zero_between", np.int8(0))
    index = list(model.graph.node).index(node)
    between = [
        helper.make_node("QuantizeLinear", [node.input[0], scale, zero], ["between_q"], name="between_q"),
        helper.make_node("DequantizeLinear", ["between_q", scale, zero], ["between"], name="between"),
    ]
    for offset, made in enumerate(between):
        model.graph.node.insert(index + offset, made)
    first(model, "Add", name="layer1.0").input[0] = "between"


def cubic_resize(model: ModelProto) -> None:
    mode = next(a for a in first(model, "Resize").attribute if a.name == "mode")
    mode.s = b"cubic"


def scales_from_a_node(model: ModelProto) -> None:
    node = first(model, "Resize")
    model.graph.node.insert(0, helper.make_node("Identity", [node.input[-1]], ["scales_computed"], name="scales"))
    node.input[-1] = "scales_computed"


def count_from_a_node(model: ModelProto) -> None:
    count = constant(model, "count", np.array([1], np.int64))
    made = [
        helper.make_node("Identity", [count], ["count_computed"], name="count"),
        helper.make_node("TopK", ["embeddings", "count_computed"], ["largest", "places"], name="largest"),
    ]
    model.graph.node.extend(made)


def reduction_of_integers(model: ModelProto) -> None:
    first(model, "ReduceMean").input[0] = first(model, "DequantizeLinear", name="Mul_output").output[0]


def resize_of_integers(model: ModelProto) -> None:
    first(model, "Resize").input[0] = first(model, "DequantizeLinear", name="Mul_output").output[0]


def dilated_pooling(model: ModelProto) -> None:
    next(a for a in first(model, "MaxPool").attribute if a.name == "dilations").ints[:] = [2, 2]


def pooling_with_indices(model: ModelProto) -> None:
    first(model, "MaxPool").output.append("indices")


def stored_in_halves(model: ModelProto) -> None:
    half = constant(model, "half", np.float16(1))
    model.graph.node.append(helper.make_node("Cast", [half], ["more"], name="more", to=TensorProto.FLOAT))


BROKEN: dict[Callable[[ModelProto], None], str] = {
    opset_18: "opset 18",
    foreign_domain: "com.microsoft",
    layer_normalization: "not known to take",
    double_constant: "is DOUBLE",
    axes_from_a_node: "axes that are not constant",
    second_input: "has 2 inputs",
    float_input: "is not uint8",
    fixed_batch: "batch of 1 alone",
    dynamic_height: "dynamic size beside the batch",
    input_in_halves: "read by one Cast to float first",
    input_read_twice: "read by one Cast to float first",
    wrong_transpose: "followed by one Transpose to NCHW",
    no_transpose: "followed by one Transpose",
    scale_from_a_node: "scale and zero point as constants",
    missing_zero_point: "scale and zero point as constants",
    zero_point_not_zero: "int8 with zero point 0",
    uint8_activation: "int8 with zero point 0",
    negative_scale: "not positive",
    activation_per_channel: "one scale a tensor",
    integers_read_twice: "DequantizeLinear alone",
    dequantized_from_nowhere: "must follow a QuantizeLinear",
    another_scale_back: "another scale or axis",
    another_axis_back: "another scale or axis",
    float_weights: "on one side only",
    weights_per_tensor: "per channel on axis 0",
    transposed_weights_per_channel: "one scale for ConvTranspose",
    bias_from_a_node: "not a plain constant",
    half_bias: "not float32",
    residual_in_float: "no Q/DQ on its identity input",
    quantized_between_convolution_and_add: "Q/DQ between the convolution and itself",
    cubic_resize: "linear or nearest",
    scales_from_a_node: "by constant scales",
    count_from_a_node: "constant K",
    reduction_of_integers: "runs in floating point alone",
    resize_of_integers: "runs in floating point alone",
    dilated_pooling: "pools without gaps",
    pooling_with_indices: "gives indices",
    stored_in_halves: "widens stored weights",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_rule_is_kept(model: ModelProto, spoil: Callable[[ModelProto], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert lint.lint(model, "tensorrt") == []
    spoil(model)
    # The checker refuses some of these first, in words of its own; the rule must see them by itself.
    monkeypatch.setattr(onnx.checker, "check_model", lambda _: None)
    assert any(BROKEN[spoil] in problem for problem in lint.lint(model, "tensorrt"))


def test_no_rule_is_without_a_graph_that_breaks_it(model: ModelProto) -> None:
    broken = set()
    for spoil in BROKEN:
        spoiled = graph.copied(model)
        spoil(spoiled)
        facts = graph.GraphFacts(spoiled)
        broken |= {rule for rule in lint.RULES if list(rule(facts, "tensorrt"))}
    assert broken == set(lint.RULES)


def test_reduction_with_axes_as_input_is_seen() -> None:
    """From opset 18 on; TensorRT 8.5 reduces over all axes without an error."""
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 4, 4, 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4, 4])
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMax", ["planes", "axes"], ["scores"], name="top", keepdims=0),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [images], [scores], [axes]), opset_imports=[helper.make_opsetid("", 18)]
    )
    assert any("ReduceMax top takes its axes as an input" in problem for problem in lint.lint(made, "tensorrt"))


def test_int8_weights_are_the_bundles_form_alone(bundle_folder: Path) -> None:
    stored = onnx.load(bundle_folder / MODEL)
    assert lint.lint(stored, "bundle") == []
    assert "build-engines export" in lint.lint(stored, "tensorrt")[0]
    with pytest.raises(GraphError, match="30 problems in all"):
        lint.require(stored, "tensorrt")
