"""The rules of TensorRT 8.5's ONNX parser, which cannot be installed where engines are built.

Two forms exist. A bundle keeps int8 weights (int8 -> DQ), four times smaller; TensorRT wants float32 weights
(float32 -> Q -> DQ), which `build_engines.export.for_tensorrt` writes. Every rule but that one holds for both.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from build_engines import graph
from build_engines.errors import GraphError

Form = Literal["bundle", "tensorrt"]

OPSETS = range(13, 18)
# Operators of the networks here that the 8.5 parser takes; LayerNormalization, for one, it does not.
OPERATORS = frozenset(
    {
        "Add",
        "AveragePool",
        "Cast",
        "Clip",
        "Concat",
        "Constant",
        "Conv",
        "ConvTranspose",
        "DepthToSpace",
        "DequantizeLinear",
        "Div",
        "Exp",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "Identity",
        "LeakyRelu",
        "MatMul",
        "Max",
        "MaxPool",
        "Mul",
        "Pad",
        "QuantizeLinear",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Sqrt",
        "Squeeze",
        "Sub",
        "TopK",
        "Transpose",
        "Unsqueeze",
    }
)
_REDUCE_WITH_ATTRIBUTE = frozenset(
    {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare"}
)


def lint(model: ModelProto, form: Form) -> list[str]:
    """What TensorRT 8.5 would refuse or, worse, compute wrongly: one sentence each, empty when the graph is fine."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        return [f"The graph is no valid ONNX: {str(error).strip().splitlines()[0]}."]
    return [problem for rule in _RULES for problem in rule(_Facts(model), form)]


def require(model: ModelProto, form: Form) -> None:
    """Raises GraphError with the first problem that `lint` finds."""
    problems = lint(model, form)
    if problems:
        raise GraphError(f"{problems[0]} ({len(problems)} problems in all)" if len(problems) > 1 else problems[0])


class _Facts:
    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants = graph.initializers(model)
        self.producers = graph.producers(model)
        self.consumers = graph.consumers(model)

    def producer(self, name: str) -> str:
        """The operator that computes a tensor, or `constant`, or `input`."""
        if name in self.constants:
            return "constant"
        node = self.producers.get(name)
        return node.op_type if node is not None else "input"


def _opset(facts: _Facts, form: Form) -> Iterator[str]:
    for used in facts.model.opset_import:
        if used.domain not in ("", "ai.onnx"):
            yield f"The graph uses operators of the domain {used.domain!r}, which TensorRT does not know."
        elif used.version not in OPSETS:
            yield f"The graph has opset {used.version}; TensorRT 8.5 takes {OPSETS.start} to {OPSETS.stop - 1}."


def _operators(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type not in OPERATORS:
            yield f"{_title(node)} is an operator that TensorRT 8.5 is not known to take."


def _reductions(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type in _REDUCE_WITH_ATTRIBUTE and len(node.input) > 1:
            yield f"{_title(node)} takes its axes as an input; TensorRT 8.5 would reduce over all axes without a word."
        if node.op_type == "ReduceSum" and len(node.input) > 1 and facts.producer(node.input[1]) != "constant":
            yield f"{_title(node)} has axes that are not constant."


def _input(facts: _Facts, form: Form) -> Iterator[str]:
    inputs = [tensor for tensor in facts.model.graph.input if tensor.name not in facts.constants]
    if len(inputs) != 1:
        yield f"The graph has {len(inputs)} inputs; it must have one, the images."
        return
    tensor = inputs[0].type.tensor_type
    shape = tensor.shape.dim
    if tensor.elem_type != TensorProto.UINT8 or len(shape) != 4 or shape[3].dim_value != 3:
        yield f"The input {inputs[0].name} is not uint8 [N, H, W, 3]."
        return
    if any(not size.dim_value for size in shape[1:]):
        yield f"The input {inputs[0].name} has a dynamic size beside the batch."
    readers = facts.consumers.get(inputs[0].name, [])
    if [node.op_type for node in readers] != ["Cast"] or _attribute(readers[0], "to") != TensorProto.FLOAT:
        yield f"The input {inputs[0].name} must be read by one Cast to float first."
    elif [node.op_type for node in facts.consumers.get(readers[0].output[0], [])] != ["Transpose"]:
        yield f"The Cast of the input {inputs[0].name} must be followed by one Transpose to NCHW."


def _quantizers(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if len(node.input) < 3 or any(name not in facts.constants for name in node.input[1:3]):
            yield f"{_title(node)} needs scale and zero point as constants."
            continue
        scale, zero = (numpy_helper.to_array(facts.constants[name]) for name in node.input[1:3])
        if zero.dtype != np.int8 or np.any(zero):
            yield f"{_title(node)} must be int8 with zero point 0."
        if not np.all(scale > 0) or not np.all(np.isfinite(scale)):
            yield f"{_title(node)} has a scale that is not positive."
        if scale.ndim and not _is_weight(facts, node):
            yield f"{_title(node)} scales an activation per channel; TensorRT 8.5 takes one scale a tensor."


def _pairs(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type == "QuantizeLinear":
            readers = {reader.op_type for name in node.output for reader in facts.consumers.get(name, [])}
            if readers != {"DequantizeLinear"}:
                yield f"{_title(node)} must be followed by DequantizeLinear alone."
        if node.op_type == "DequantizeLinear":
            source = facts.producer(node.input[0])
            if source == "constant" and form == "tensorrt":
                yield f"{_title(node)} reads int8 weights; write TensorRT's form with build-engines export."
            elif source not in ("constant", "QuantizeLinear"):
                yield f"{_title(node)} must follow a QuantizeLinear."


def _convolutions(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        activation, weight = (facts.producer(name) == "DequantizeLinear" for name in node.input[:2])
        if activation != weight:
            yield f"{_title(node)} is quantized on one side only."
        if weight:
            yield from _weights(facts, node)
        if len(node.input) > 2 and facts.producer(node.input[2]) != "constant":
            yield f"{_title(node)} has a bias that is not a plain constant."
        elif len(node.input) > 2 and facts.constants[node.input[2]].data_type != TensorProto.FLOAT:
            yield f"{_title(node)} has a bias that is not float32."


def _weights(facts: _Facts, convolution: NodeProto) -> Iterator[str]:
    dequantize = facts.producers[convolution.input[1]]
    scale = facts.constants.get(dequantize.input[1])
    if scale is None:
        return
    per_channel = bool(scale.dims)
    if convolution.op_type == "ConvTranspose" and per_channel:
        yield f"{_title(convolution)} has weights scaled per channel; TensorRT 8.5 takes one scale for ConvTranspose."
    if convolution.op_type == "Conv" and (not per_channel or _attribute(dequantize, "axis", 1) != 0):
        yield f"{_title(convolution)} must have weights scaled per channel on axis 0."


def _residuals(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type != "Add":
            continue
        sources = [facts.producers[name] for name in node.input if facts.producer(name) == "Conv"]
        quantized = [source for source in sources if facts.producer(source.input[0]) == "DequantizeLinear"]
        if quantized and "DequantizeLinear" not in {facts.producer(name) for name in node.input}:
            yield f"{_title(node)} adds to a quantized convolution and has no Q/DQ on its identity input."
        for name in node.input:
            if facts.producer(name) == "DequantizeLinear" and not sources:
                before = facts.producers[facts.producers[name].input[0]].input[0]
                if facts.producer(before) == "Conv":
                    yield f"{_title(node)} has Q/DQ between the convolution and itself."


def _head(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type == "Resize" and (
            _attribute(node, "mode", b"nearest") not in (b"linear", b"nearest")
            or facts.producer(node.input[-1]) != "constant"
        ):
            yield f"{_title(node)} must be linear or nearest, by constant scales."
        if node.op_type == "TopK" and facts.producer(node.input[1]) != "constant":
            yield f"{_title(node)} must have a constant K."


def _storage(facts: _Facts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type == "Cast" and facts.producer(node.input[0]) == "constant" and form == "tensorrt":
            yield f"{_title(node)} widens stored weights; write TensorRT's form with build-engines export."


_RULES: tuple[Callable[[_Facts, Form], Iterator[str]], ...] = (
    _opset,
    _operators,
    _reductions,
    _input,
    _quantizers,
    _pairs,
    _convolutions,
    _residuals,
    _head,
    _storage,
)


def _is_weight(facts: _Facts, node: NodeProto) -> bool:
    if node.op_type == "DequantizeLinear" and facts.producer(node.input[0]) == "QuantizeLinear":
        node = facts.producers[node.input[0]]
    return facts.producer(node.input[0]) == "constant"


def _attribute(node: NodeProto, name: str, default: object = None) -> object:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _title(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"
