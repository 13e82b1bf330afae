"""From an ONNX graph to the kernels that an inference engine launches, with operations and bytes of each.

Assumed of the engine, as TensorRT documents its fusions:

- a convolution, its bias, the residual addition behind it and the ReLU or Clip behind that are one kernel; so are
  pointwise operations of one size that only follow each other;
- a Q is computed by the kernel before it where nothing else reads that kernel's result, and is moved ahead of pooling,
  concatenation, transposition and depth-to-space, which then take int8; elsewhere it is a kernel of its own, which
  reads floats and writes int8. A DQ is computed by the kernel behind it;
- views (reshape, squeeze) cost nothing. All else is a kernel of its own: no concatenation is made in place, and no
  reduction is fused with what it reduces.

Every kernel reads each of its inputs once and writes its result once; weights and biases are read once a batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, shape_inference

from build_engines.roofline_operations import MATRIX, POINTWISE, operations
from engines.errors import GraphError
from engines.onnx_graph import copied

Arithmetic = Literal["fp32", "fp16", "int8"]
HEAD = "map, score and embedding"

_BYTES: dict[Arithmetic, int] = {"fp32": 4, "fp16": 2, "int8": 1}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "DequantizeLinear")
_ACTIVATIONS = ("Relu", "Clip")
# Rounding before or after them gives the same integers.
_QUANTIZED_BEFORE = ("MaxPool", "Concat", "Transpose", "DepthToSpace")


@dataclass(frozen=True)
class Kernel:
    """What is launched at once, for a whole batch.

    Attributes:
        name: of the node that it begins with.
        part: network and module that it belongs to; `HEAD` where no convolution follows.
        arithmetic: what convolutions and matrix products multiply; all else computes in fp32.
        matrix: whether it is a convolution or a matrix product.
        operations: see `operations`; of a convolution's kernel, the convolution's alone.
        weights, read, written: bytes of the weights and bias of a convolution or product, and of activations.
    """

    name: str
    part: str
    arithmetic: Arithmetic
    matrix: bool
    operations: int
    weights: int
    read: int
    written: int

    @property
    def bytes(self) -> int:
        """All that it moves."""
        return self.weights + self.read + self.written


def kernels_of(model: ModelProto, batch: int = 1, floats: Arithmetic = "fp32") -> list[Kernel]:
    """The kernels of a graph, float or with Q/DQ, each behind those that it reads from.

    Args:
        batch: images at once, > 0.
        floats: what floating point is up to the last convolutions; behind them, in the head, it is fp32.

    Raises GraphError where an operation is not known, or a shape depends on more than the batch.
    """
    stored = _Stored(model, batch)
    groups = _fused(stored)
    makers = {name: group for group in groups for node in group.nodes for name in node.output}
    for group in reversed(groups):
        followers = (makers[node.output[0]] for node in stored.readers(group.outputs[-1]))
        group.in_head = group.first.op_type != "Conv" and all(follower.in_head for follower in followers)
    return [_counted(group, stored, makers, floats) for group in groups]


@dataclass(eq=False)
class _Group:
    """Nodes that are one kernel."""

    nodes: list[NodeProto]
    in_head: bool = False

    @property
    def first(self) -> NodeProto:
        return self.nodes[0]

    @property
    def outputs(self) -> list[str]:
        return [name for node in self.nodes for name in node.output]

    def takes(self, node: NodeProto, alone: bool) -> bool:
        """Whether a convolution's kernel computes `node` on its result; `alone`: with no other activations."""
        done = [before.op_type for before in self.nodes]
        if done not in (["Conv"], ["Conv", "Add"]):
            return False
        return node.op_type in _ACTIVATIONS or (node.op_type == "Add" and not alone and len(done) == 1)


class _Stored:
    """A graph whose nodes name the tensors that lie in memory: views and DQ are seen through.

    Attributes:
        constants: by name, whether a constant comes through a DQ and so is int8.
        shapes, integers: of all tensors, and the floats among them that only Q reads and are stored as int8.
    """

    def __init__(self, model: ModelProto, batch: int) -> None:
        inferred = _with_shapes(model, batch)
        values = [value for values in (inferred.input, inferred.output, inferred.value_info) for value in values]
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer} | {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        }
        self.constants = {tensor.name: False for tensor in inferred.initializer}
        self.nodes: list[NodeProto] = []
        places: dict[str, str] = {}
        for node in inferred.node:
            if all(name in self.constants for name in node.input):
                integer = node.op_type == "DequantizeLinear" or any(self.constants[name] for name in node.input)
                self.constants |= dict.fromkeys(node.output, integer)
                continue
            node.input[:] = [places.get(name, name) for name in node.input]
            if node.op_type in _VIEWS:
                places[node.output[0]] = node.input[0]
            else:
                self.nodes.append(node)
        self.outputs = {places.get(output.name, output.name) for output in inferred.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in self.activations(node):
                self._readers.setdefault(name, []).append(node)
        self.integers: set[str] = set()
        for node in reversed(self.nodes):
            readers = self.readers(node.output[0])
            if readers and node.output[0] not in self.outputs and all(map(self._takes_integers, readers)):
                self.integers.add(node.output[0])

    def activations(self, node: NodeProto) -> list[str]:
        """What a node reads that is no constant, each once."""
        return list(dict.fromkeys(name for name in node.input if name and name not in self.constants))

    def readers(self, name: str) -> list[NodeProto]:
        return self._readers.get(name, [])

    def is_only_for(self, name: str, node: NodeProto) -> bool:
        return name not in self.outputs and self.readers(name) == [node]

    def elements(self, name: str) -> int:
        return math.prod(self.shapes[name])

    def _takes_integers(self, node: NodeProto) -> bool:
        moved = node.op_type in _QUANTIZED_BEFORE and node.output[0] in self.integers
        return node.op_type == "QuantizeLinear" or moved


def _with_shapes(model: ModelProto, batch: int) -> onnx.GraphProto:
    fixed = copied(model)
    del fixed.graph.value_info[:]
    for value in fixed.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise GraphError(f"ONNX cannot tell the shapes of the graph: {str(error).splitlines()[0]}.") from error
    known = {tensor.name for tensor in inferred.initializer} | {
        value.name
        for values in (inferred.input, inferred.output, inferred.value_info)
        for value in values
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    for node in inferred.node:
        if not known.issuperset(node.output):
            raise GraphError(f"The node {node.name} has a shape that depends on more than the batch; fix the others.")
    return inferred


def _fused(stored: _Stored) -> list[_Group]:
    groups: list[_Group] = []
    makers: dict[str, _Group] = {}
    for node in stored.nodes:
        joined = list(_joined(stored, node, makers))
        group = _Group([*(done for part in joined for done in part.nodes), node])
        # In the order of their last nodes, so that none stands before what it reads.
        groups = [*(other for other in groups if other not in joined), group]
        makers |= dict.fromkeys(group.outputs, group)
    return groups


def _joined(stored: _Stored, node: NodeProto, makers: dict[str, _Group]) -> Iterator[_Group]:
    """The groups that a node becomes part of."""
    inputs = stored.activations(node)
    before = [makers[name] for name in inputs if name in makers and stored.is_only_for(name, node)]
    if node.op_type == "QuantizeLinear":
        yield from before
    elif node.op_type in POINTWISE:
        taken = [group for group in before if group.takes(node, alone=len(inputs) == 1)]
        if taken:
            # Of two convolutions, as in `y + downsample(x)`, the block's last.
            yield taken[0]
            return
        size = stored.elements(node.output[0])
        for group in before:
            if group.first.op_type in POINTWISE and stored.elements(group.outputs[-1]) == size:
                yield group


def _counted(group: _Group, stored: _Stored, makers: dict[str, _Group], floats: Arithmetic) -> Kernel:
    def stored_bytes(name: str) -> int:
        if stored.types[name] not in _FLOATS:
            width = helper.tensor_dtype_to_np_dtype(stored.types[name]).itemsize
        elif name in stored.integers:
            width = 1
        else:
            of_head = name in stored.outputs or (name in makers and makers[name].in_head)
            width = _BYTES["fp32" if of_head else floats]
        return stored.elements(name) * width

    first = group.first
    matrix = first.op_type in MATRIX
    used: Arithmetic = "fp32" if group.in_head else floats
    constants = {name for name in first.input if name in stored.constants} if matrix else set()
    inside = group.outputs
    read = dict.fromkeys(name for node in group.nodes for name in stored.activations(node) if name not in inside)
    # A Q is named after the tensor it reads.
    owner = makers.get(first.input[0], group).first if first.op_type == "QuantizeLinear" else first
    return Kernel(
        name=first.name,
        part=HEAD if group.in_head else _part(owner.name),
        arithmetic="int8" if any(stored.constants[name] for name in constants) else used if matrix else "fp32",
        matrix=matrix,
        operations=sum(operations(node, stored.shapes) for node in group.nodes[: 1 if matrix else None]),
        weights=sum(stored.elements(name) * (1 if stored.constants[name] else _BYTES[used]) for name in constants),
        read=sum(map(stored_bytes, read)),
        written=stored_bytes(inside[-1]),
    )


def _part(name: str) -> str:
    """Network and module of a node as it was exported: `/method/student/layer1/layer1.0/…` is student/layer1."""
    path = name.strip("/").split("/")[:-1]
    return "/".join((path[1:] if path[:1] == ["method"] else path)[:2])
