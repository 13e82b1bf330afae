"""The rules of TensorRT 8.5's ONNX parser, which cannot be installed where engines are built.

Two forms exist. A bundle keeps int8 weights (int8 -> DQ), four times smaller; TensorRT wants float32 weights
(float32 -> Q -> DQ), which `engines.tensorrt_form` writes. Every rule but that one holds for both.
"""

from collections.abc import Callable, Iterator

import onnx
from onnx import ModelProto, TensorProto

from engines.errors import GraphError
from engines.lint_quantization import QUANTIZATION_RULES
from engines.onnx_graph import GraphFacts, attribute, ints, title
from engines.tensorrt_form import Form

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
_FLOATING_ALONE = _REDUCE_WITH_ATTRIBUTE | {"ReduceSum", "Resize", "TopK"}
_CONSTANTS = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.INT8,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.BOOL,
    }
)
_TO_NCHW = (0, 3, 1, 2)


def lint(model: ModelProto, form: Form) -> list[str]:
    """What TensorRT 8.5 would refuse or, worse, compute wrongly: one sentence each, empty when the graph is fine."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        return [f"The graph is no valid ONNX: {str(error).strip().splitlines()[0]}."]
    facts = GraphFacts(model)
    return [problem for rule in RULES for problem in rule(facts, form)]


def require(model: ModelProto, form: Form) -> None:
    """Raises GraphError with the first problem that `lint` finds."""
    problems = lint(model, form)
    if problems:
        raise GraphError(f"{problems[0]} ({len(problems)} problems in all)" if len(problems) > 1 else problems[0])


def _opset(facts: GraphFacts, form: Form) -> Iterator[str]:
    for used in facts.model.opset_import:
        if used.domain not in ("", "ai.onnx"):
            yield f"The graph uses operators of the domain {used.domain!r}, which TensorRT does not know."
        elif used.version not in OPSETS:
            yield f"The graph has opset {used.version}; TensorRT 8.5 takes {OPSETS.start} to {OPSETS.stop - 1}."


def _operators(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type not in OPERATORS:
            yield f"{title(node)} is an operator that TensorRT 8.5 is not known to take."


def _reductions(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type in _REDUCE_WITH_ATTRIBUTE and len(node.input) > 1:
            yield f"{title(node)} takes its axes as an input; TensorRT 8.5 would reduce over all axes without a word."
        if node.op_type == "ReduceSum" and len(node.input) > 1 and facts.producer(node.input[1]) != "constant":
            yield f"{title(node)} has axes that are not constant."


def _input(facts: GraphFacts, form: Form) -> Iterator[str]:
    inputs = [tensor for tensor in facts.model.graph.input if tensor.name not in facts.constants]
    if len(inputs) != 1:
        yield f"The graph has {len(inputs)} inputs; it must have one, the images."
        return
    tensor = inputs[0].type.tensor_type
    shape = tensor.shape.dim
    if tensor.elem_type != TensorProto.UINT8 or len(shape) != 4 or shape[3].dim_value != 3:
        yield f"The input {inputs[0].name} is not uint8 [N, H, W, 3]."
        return
    if shape[0].dim_value:
        yield f"The input {inputs[0].name} has a batch of {shape[0].dim_value} alone; it must be dynamic."
    if any(not size.dim_value for size in shape[1:]):
        yield f"The input {inputs[0].name} has a dynamic size beside the batch."
    readers = facts.consumers.get(inputs[0].name, [])
    if [node.op_type for node in readers] != ["Cast"] or attribute(readers[0], "to") != TensorProto.FLOAT:
        yield f"The input {inputs[0].name} must be read by one Cast to float first."
        return
    readers = facts.consumers.get(readers[0].output[0], [])
    if [node.op_type for node in readers] != ["Transpose"] or ints(readers[0], "perm") != _TO_NCHW:
        yield f"The Cast of the input {inputs[0].name} must be followed by one Transpose to NCHW."


def _constants(facts: GraphFacts, form: Form) -> Iterator[str]:
    for tensor in facts.constants.values():
        if tensor.data_type not in _CONSTANTS:
            kind = TensorProto.DataType.Name(tensor.data_type)
            yield f"The constant {tensor.name} is {kind}, which TensorRT 8.5 does not take."


def _pooling(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type not in ("MaxPool", "AveragePool"):
            continue
        if set(ints(node, "dilations")) - {1}:
            yield f"{title(node)} is dilated, and TensorRT 8.5 pools without gaps."
        if len(node.output) > 1:
            yield f"{title(node)} gives indices, which TensorRT 8.5 does not."


def _floating(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type in _FLOATING_ALONE and facts.producer(node.input[0]) == "DequantizeLinear":
            yield f"{title(node)} reads quantized values; it runs in floating point alone."


def _head(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type == "Resize" and (
            attribute(node, "mode", b"nearest") not in (b"linear", b"nearest")
            or facts.producer(node.input[-1]) != "constant"
        ):
            yield f"{title(node)} must be linear or nearest, by constant scales."
        if node.op_type == "TopK" and facts.producer(node.input[1]) != "constant":
            yield f"{title(node)} must have a constant K."


def _storage(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type == "Cast" and facts.producer(node.input[0]) == "constant" and form == "tensorrt":
            yield f"{title(node)} widens stored weights; write TensorRT's form with build-engines export."


RULES: tuple[Callable[[GraphFacts, Form], Iterator[str]], ...] = (
    _opset,
    _operators,
    _constants,
    _reductions,
    _input,
    *QUANTIZATION_RULES,
    _floating,
    _pooling,
    _head,
    _storage,
)
