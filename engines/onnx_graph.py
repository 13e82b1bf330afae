"""Small helpers to read and rewrite ONNX graphs. Needs `onnx`, which only compiling and building have."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from engines.errors import GraphError


class GraphFacts:
    """What rules ask of a graph: its nodes, and who makes and reads a tensor."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants = initializers(model)
        self.producers = producers(model)
        self.consumers = consumers(model)

    def producer(self, name: str) -> str:
        """The operator that computes a tensor, or `constant`, or `input`."""
        if name in self.constants:
            return "constant"
        node = self.producers.get(name)
        return node.op_type if node is not None else "input"


def read_model(path: Path) -> ModelProto:
    """Read an ONNX file. Raises GraphError where there is none."""
    try:
        return onnx.load(path)
    except FileNotFoundError as error:
        raise GraphError(f"There is no file {path}; give an ONNX file.") from error
    except Exception as error:  # protobuf's DecodeError has moved between its versions.
        raise GraphError(f"{path} is no ONNX file ({error}).") from error


def initializers(model: ModelProto) -> dict[str, TensorProto]:
    """The graph's constants by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def producers(model: ModelProto) -> dict[str, NodeProto]:
    """Tensor name to the node that computes it."""
    return {output: node for node in model.graph.node for output in node.output}


def consumers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Tensor name to the nodes that read it, in graph order."""
    found: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            if name:
                found[name].append(node)
    return found


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def ints(node: NodeProto, name: str) -> tuple[int, ...]:
    """A node's attribute that is a list of integers; empty where the node has none."""
    return next((tuple(a.ints) for a in node.attribute if a.name == name), ())


def title(node: NodeProto) -> str:
    """How messages name a node: its operator, and its name or, where it has none, its output's."""
    return f"{node.op_type} {node.name or node.output[0]}"


def scalar_or_vector(name: str, values: NDArray[np.generic] | np.generic) -> TensorProto:
    """An initializer that keeps the shape it is given, 0-d included."""
    return numpy_helper.from_array(np.asarray(values), name)


def copied(model: ModelProto) -> ModelProto:
    """The same graph, to be changed."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def prune(model: ModelProto) -> None:
    """Drop initializers that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Put `nodes` in place of the graph's."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
