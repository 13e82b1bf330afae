"""Small helpers to read and rewrite ONNX graphs."""

from collections import defaultdict

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


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


def scalar_or_vector(name: str, values: NDArray[np.generic] | np.generic) -> TensorProto:
    """An initializer that keeps the shape it is given, 0-d included."""
    return numpy_helper.from_array(np.asarray(values), name)


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


def tidy(model: ModelProto) -> None:
    """Turn what the exporter wrote as Constant and Identity nodes into initializers, so that rules see one form.

    An initializer shared under several names is written once a name: a convolution owns its weights and bias. What is
    computed from constants alone (the exporter does so for paddings) becomes a constant as well.
    """
    constants = initializers(model)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensor = next(attribute.t for attribute in node.attribute if attribute.name == "value")
            constants[node.output[0]] = _renamed(tensor, node.output[0])
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = _renamed(constants[node.input[0]], node.output[0])
        elif node.input and all(name in constants for name in node.input if name):
            constants[node.output[0]] = _computed(node, constants, model)
        else:
            nodes.append(node)
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants.values())
    replace_nodes(model, nodes)
    prune(model)


def _renamed(tensor: TensorProto, name: str) -> TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _computed(node: NodeProto, constants: dict[str, TensorProto], model: ModelProto) -> TensorProto:
    values = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
    inputs = [helper.make_tensor_value_info(name, constants[name].data_type, None) for name in values]
    outputs = [helper.make_empty_tensor_value_info(node.output[0])]
    single = helper.make_model(
        helper.make_graph([node], node.name, inputs, outputs), opset_imports=list(model.opset_import)
    )
    (value,) = ReferenceEvaluator(single).run(None, values)
    return numpy_helper.from_array(np.asarray(value), node.output[0])
