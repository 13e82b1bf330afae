"""Arithmetic operations of ONNX nodes, from the shapes of their tensors."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from onnx import NodeProto

from engines.errors import GraphError
from engines.onnx_graph import attribute

Shapes = Mapping[str, Sequence[int]]

POINTWISE = ("Add", "Sub", "Mul", "Div", "Sqrt", "Relu", "Clip", "Max", "Cast")
MATRIX = ("Conv", "MatMul", "Gemm")
_REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax")
_POOLINGS = ("MaxPool", "AveragePool", "GlobalAveragePool")
_MOVES = ("Concat", "Transpose", "DepthToSpace", "Pad", "QuantizeLinear")
_LINEAR_TAPS = 4


def operations(node: NodeProto, shapes: Shapes) -> int:
    """Multiply-accumulates times 2 of convolutions, products and interpolations.

    Pointwise operations count one an output element, reductions one an input element, pooling one an element of each
    window; what only moves or rounds elements counts nothing, and neither does a convolution's bias.

    Raises GraphError where the operation is not known here.
    """
    count = _COUNTED.get(node.op_type)
    if count is None:
        raise GraphError(f"The node {node.name} is a {node.op_type}, whose operations are not counted here.")
    return count(node, shapes)


def _convolution(node: NodeProto, shapes: Shapes) -> int:
    """Each output takes a multiply-accumulate a weight of its filter; weights are [C_out, C_in / groups, kh, kw]."""
    return 2 * _outputs(node, shapes) * math.prod(shapes[node.input[1]][1:])


def _product(node: NodeProto, shapes: Shapes) -> int:
    return 2 * _outputs(node, shapes) * shapes[node.input[0]][0 if attribute(node, "transA") else -1]


def _interpolation(node: NodeProto, shapes: Shapes) -> int:
    return 2 * _LINEAR_TAPS * _outputs(node, shapes)


def _pooling(node: NodeProto, shapes: Shapes) -> int:
    if node.op_type == "GlobalAveragePool":
        return _inputs(node, shapes)
    return _outputs(node, shapes) * math.prod(cast(list[int], attribute(node, "kernel_shape")))


def _outputs(node: NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]])


def _inputs(node: NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.input[0]])


def _nothing(node: NodeProto, shapes: Shapes) -> int:
    return 0


_COUNTED: dict[str, Callable[[NodeProto, Shapes], int]] = {
    "Conv": _convolution,
    "MatMul": _product,
    "Gemm": _product,
    "Resize": _interpolation,
    **dict.fromkeys(POINTWISE, _outputs),
    **dict.fromkeys(_REDUCTIONS, _inputs),
    **dict.fromkeys(_POOLINGS, _pooling),
    **dict.fromkeys(_MOVES, _nothing),
}
