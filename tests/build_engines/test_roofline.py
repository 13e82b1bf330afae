"""Counts against graphs small enough to count by hand, and against the published cost of ResNets."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from build_engines.methods import METHODS
from build_engines.quantization import qdq
from build_engines.roofline import XAVIER_NX, cost, is_memory_bound, seconds_of
from build_engines.roofline_graph import HEAD, Kernel, kernels_of
from build_engines.roofline_networks import classifier_graph, kernels_at, method_graph
from engines.bundle import MODEL
from engines.errors import GraphError
from tests.build_engines.test_cli import call

SIDE = 16
AREA = SIDE * SIDE
FILTER = 3 * 3


def graph_of(
    nodes: Sequence[NodeProto], outputs: Sequence[str], channels: int = 4, **constants: np.ndarray
) -> ModelProto:
    """A graph of float images [batch, channels, 16, 16], named `x`."""
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, SIDE, SIDE])
    found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    weights = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(list(nodes), "small", [images], found, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def convolution(name: str, before: str, after: str, weights: str, *bias: str) -> NodeProto:
    return helper.make_node("Conv", [before, weights, *bias], [after], name=name, pads=[1, 1, 1, 1])


def filters(channels: int, channels_in: int) -> np.ndarray:
    return np.zeros((channels, channels_in, 3, 3), np.float32)


def residual_block(*, more: Sequence[NodeProto] = (), outputs: Sequence[str] = ("z",)) -> ModelProto:
    """Two convolutions of four channels, the input added, ReLU behind both, and a third convolution."""
    nodes = [
        convolution("first", "x", "a", "w1", "b1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        convolution("second", "b", "c", "w2"),
        helper.make_node("Add", ["c", "x"], ["d"], name="add"),
        helper.make_node("Relu", ["d"], ["y"], name="relu2"),
        convolution("third", "y", "z", "w3"),
        *more,
    ]
    return graph_of(nodes, outputs, w1=filters(4, 4), b1=np.zeros(4, np.float32), w2=filters(4, 4), w3=filters(2, 4))


def quantized(model: ModelProto) -> ModelProto:
    placement = qdq.place(model)
    return qdq.insert(model, placement, dict.fromkeys(placement.tensors, np.float32(1)))


def named(kernels: Sequence[Kernel]) -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in kernels}


@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions_bias_residual_and_relu_are_counted_by_hand(batch: int) -> None:
    first, second, third = kernels_of(residual_block(), batch)
    map_bytes = batch * 4 * AREA * 4
    multiplied = batch * 4 * AREA * 4 * FILTER
    assert (first.name, second.name, third.name) == ("first", "second", "third")
    assert first.operations == second.operations == 2 * multiplied
    assert third.operations == multiplied
    assert (first.weights, second.weights, third.weights) == (4 * (4 * 4 * FILTER + 4), 4 * 4 * 4 * FILTER, 4 * 72)
    assert (first.read, first.written) == (map_bytes, map_bytes)
    assert (second.read, second.written) == (2 * map_bytes, map_bytes)
    assert third.written == map_bytes // 2


def test_int8_lies_between_quantized_convolutions() -> None:
    kernels = named(kernels_of(quantized(residual_block())))
    integers = 4 * AREA
    assert list(kernels) == ["x_quantized", "first", "second", "third"]
    assert (kernels["x_quantized"].read, kernels["x_quantized"].written) == (4 * integers, integers)
    assert (kernels["first"].read, kernels["first"].written) == (integers, integers)
    assert (kernels["second"].read, kernels["second"].written) == (2 * integers, integers)
    assert (kernels["third"].read, kernels["third"].written) == (integers, 4 * integers // 2)
    assert kernels["first"].weights == 4 * 4 * FILTER + 4 * 4
    assert {kernel.arithmetic for kernel in kernels.values() if kernel.matrix} == {"int8"}


def test_what_the_map_reads_too_is_written_in_float_and_quantized_by_itself() -> None:
    square = helper.make_node("Mul", ["y", "y"], ["squares"], name="square")
    kernels = named(kernels_of(quantized(residual_block(more=[square], outputs=["z", "squares"]))))
    integers = 4 * AREA
    assert kernels["second"].written == 4 * integers
    assert (kernels["y_quantized"].read, kernels["y_quantized"].written) == (4 * integers, integers)
    assert kernels["square"].read == kernels["square"].written == 4 * integers
    assert kernels["square"].part == HEAD
    assert kernels["square"].operations == integers


def test_layers_kept_in_float_are_not_counted_as_int8() -> None:
    model = residual_block()
    placement = qdq.place(model, ["second"])
    written = qdq.insert(model, placement, dict.fromkeys(placement.tensors, np.float32(1)))
    kernels = named(kernels_of(written, floats="fp16"))
    assert kernels["second"].arithmetic == "fp16"
    assert kernels["second"].weights == 2 * 4 * 4 * FILTER
    assert kernels["first"].written == 2 * 4 * AREA


def test_a_shortcut_of_its_own_writes_and_the_blocks_last_convolution_adds() -> None:
    nodes = [
        convolution("last", "x", "a", "w1"),
        convolution("shortcut", "x", "b", "w2"),
        helper.make_node("Add", ["a", "b"], ["c"], name="add"),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    model = graph_of(nodes, ["y"], w1=filters(4, 4), w2=filters(4, 4))
    for graph, width in ((model, 4), (quantized(model), 1)):
        shortcut, last = [kernel for kernel in kernels_of(graph) if kernel.matrix]
        assert (shortcut.name, last.name) == ("shortcut", "last")
        assert shortcut.written == 4 * AREA * width
        assert last.read == 2 * 4 * AREA * width
        assert last.written == 4 * AREA * 4


def test_pooling_and_concatenation_move_int8_where_a_convolution_follows() -> None:
    nodes = [
        convolution("before", "x", "a", "w1"),
        helper.make_node("MaxPool", ["a"], ["b"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["b", "b"], ["c"], name="twice", axis=1),
        convolution("after", "c", "y", "w2"),
    ]
    kernels = named(kernels_of(quantized(graph_of(nodes, ["y"], w1=filters(4, 4), w2=filters(4, 8)))))
    assert list(kernels) == ["x_quantized", "before", "pool", "twice", "after"]
    assert kernels["before"].written == kernels["pool"].read == 4 * AREA
    assert kernels["pool"].written == kernels["twice"].read == AREA
    assert kernels["twice"].written == kernels["after"].read == 2 * AREA
    assert kernels["pool"].operations == AREA * 4


def test_fp16_halves_the_trunk_and_leaves_the_head_in_fp32() -> None:
    nodes = [
        convolution("trunk", "x", "a", "w1"),
        helper.make_node("Mul", ["a", "a"], ["b"], name="square"),
        helper.make_node("ReduceSum", ["b", "axes"], ["y"], name="sum"),
    ]
    model = graph_of(nodes, ["y"], w1=filters(4, 4), axes=np.array([1]))
    trunk, square, total = kernels_of(model, floats="fp16")
    assert (trunk.arithmetic, trunk.written, trunk.weights) == ("fp16", 2 * 4 * AREA, 2 * 4 * 4 * FILTER)
    assert (square.read, square.written) == (2 * 4 * AREA, 4 * 4 * AREA)
    assert (total.read, total.written, total.operations) == (4 * 4 * AREA, 4 * AREA, 4 * AREA)
    assert (trunk.part, square.part, total.part) == ("", HEAD, HEAD)


def test_pointwise_operations_that_only_follow_each_other_are_one_kernel() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "offset"], ["a"], name="offset"),
        helper.make_node("Mul", ["a", "a"], ["b"], name="square"),
        helper.make_node("Reshape", ["b", "shape"], ["c"], name="flat"),
        helper.make_node("Sqrt", ["c"], ["d"], name="root"),
        helper.make_node("Div", ["c", "d"], ["y"], name="ratio"),
    ]
    constants = {"offset": np.float32(1), "shape": np.array([0, -1])}
    first, second = kernels_of(graph_of(nodes, ["y"], **{k: np.asarray(v) for k, v in constants.items()}))
    elements = 4 * AREA
    assert (first.operations, first.read, first.written) == (2 * elements, 4 * elements, 4 * elements)
    assert (second.operations, second.read, second.written) == (2 * elements, 4 * elements, 4 * elements)


def test_products_and_interpolation_are_counted_by_hand() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["a"], name="product"),
        helper.make_node("Resize", ["a", "", "scales"], ["y"], name="larger", mode="linear"),
    ]
    matrix, scales = np.zeros((SIDE, 5), np.float32), np.array([1, 1, 2, 2], np.float32)
    product, larger = kernels_of(graph_of(nodes, ["y"], matrix=matrix, scales=scales))
    assert product.operations == 2 * 4 * SIDE * 5 * SIDE
    assert product.weights == 4 * SIDE * 5
    assert larger.operations == 8 * 4 * (2 * SIDE) * (2 * 5)


def test_an_unknown_operation_is_refused_by_name() -> None:
    model = graph_of([helper.make_node("Erf", ["x"], ["y"], name="error_function")], ["y"])
    with pytest.raises(GraphError, match="error_function is a Erf"):
        kernels_of(model)


def test_a_second_dynamic_axis_is_refused() -> None:
    model = graph_of([helper.make_node("Relu", ["x"], ["y"], name="relu")], ["y"])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(GraphError, match="more than the batch"):
        kernels_of(model)


@pytest.mark.parametrize(("name", "expected"), [("resnet18", 1.814e9), ("resnet50", 4.089e9)])
def test_resnets_take_the_multiply_accumulates_that_are_known(name: str, expected: float) -> None:
    kernels = kernels_at(classifier_graph(name), "int8")
    counted = sum(kernel.operations for kernel in kernels if kernel.matrix) / 2
    assert counted == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_fewer_bits_move_fewer_bytes_and_compute_the_same(method: str) -> None:
    graph = method_graph(method, "resnet18_half", 64)
    found = {precision: cost(kernels_at(graph, precision)) for precision in ("fp32", "fp16", "int8")}
    assert found["fp32"].bytes > found["fp16"].bytes > found["int8"].bytes
    assert found["fp32"].operations == found["fp16"].operations == found["int8"].operations
    times = [found[precision].milliseconds[0] for precision in ("fp32", "fp16", "int8")]
    assert times == sorted(times, reverse=True)
    student = cost(kernels_at(graph, "int8-student"))
    assert found["int8"].milliseconds[0] < student.milliseconds[0] < found["fp32"].milliseconds[0]


def test_a_kernel_takes_the_longer_of_operations_and_bytes() -> None:
    busy = Kernel("busy", "", "int8", True, operations=34_000_000, weights=0, read=1000, written=1000)
    idle = Kernel("idle", "", "fp32", False, operations=1000, weights=0, read=51_200_000, written=51_200_000)
    assert seconds_of(busy, 0.25) == pytest.approx(1e-5)
    assert seconds_of(idle, 0.25) == pytest.approx(2e-3)
    assert not is_memory_bound(busy, 0.25)
    assert is_memory_bound(idle, 0.25)
    both = cost([busy, idle], (0.25, 0.5), images=2)
    assert both.milliseconds == pytest.approx(((0.01 + 2 + 0.01) / 2, (0.005 + 2 + 0.01) / 2))
    assert both.launches == pytest.approx(XAVIER_NX.launch * 1e3)


def test_command_estimates_a_bundle_part_by_part(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "roofline", bundle_folder, "--layers", 1, "--json", tmp_path / "figures.json")
    assert code == 0
    assert "parts, int8" in out and "| teacher/layer1 " in out and "no measurement" in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["estimate"] is True
    assert sum(kernel["operations"] for kernel in figures["kernels"]) == figures["operations"]
    assert {kernel["arithmetic"] for kernel in figures["kernels"] if kernel["matrix"]} == {"int8"}


def test_command_counts_all_tiles_of_an_image(
    tiled_bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "roofline", tiled_bundle_folder, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    tile = cost(kernels_of(onnx.load(tiled_bundle_folder / MODEL)))
    assert figures["operations"] == 9 * tile.operations
    assert figures["bytes"] < 9 * tile.bytes


def test_command_tells_methods_precisions_and_shares(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--teacher", "resnet18_half", "--image-size", 64, "--precision", "int8", "--share", 0.3)
    code, out, _ = call(capsys, "roofline", *small)
    assert code == 0
    assert "ms at 30%" in out
    assert all(f"| {method} " in out for method in METHODS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "patchcore"], "--method 'patchcore' is not one of stfpm"),
        (["--precision", "int4"], "--precision 'int4' is not one of fp32"),
        (["--image-size", "100"], "no multiple of 16"),
        (["--teacher", "vgg16"], "--teacher 'vgg16' is not one of"),
        (["--share", "0"], "--share"),
        (["/nowhere"], "There is no bundle in /nowhere"),
    ],
)
def test_wrong_questions(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = call(capsys, "roofline", *options)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
