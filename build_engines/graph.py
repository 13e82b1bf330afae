"""What the exporter wrote, in the one form that rules and rewrites here expect."""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from engines import onnx_graph


def tidy(model: ModelProto) -> None:
    """Turn what the exporter wrote as Constant and Identity nodes into initializers, so that rules see one form.

    An initializer shared under several names is written once a name: a convolution owns its weights and bias. What is
    computed from constants alone (the exporter does so for paddings) becomes a constant as well.
    """
    constants = onnx_graph.initializers(model)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensor = next(attribute.t for attribute in node.attribute if attribute.name == "value")
            constants[node.output[0]] = _renamed(tensor, node.output[0])
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = _renamed(constants[node.input[0]], node.output[0])
        elif node.input and all(name in constants for name in node.input if name):
            constants |= _computed(node, constants, model)
        else:
            nodes.append(node)
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants.values())
    onnx_graph.replace_nodes(model, nodes)
    onnx_graph.prune(model)


def _renamed(tensor: TensorProto, name: str) -> TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _computed(node: NodeProto, constants: dict[str, TensorProto], model: ModelProto) -> dict[str, TensorProto]:
    values = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
    inputs = [helper.make_tensor_value_info(name, constants[name].data_type, None) for name in values]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    single = helper.make_model(
        helper.make_graph([node], node.name, inputs, outputs), opset_imports=list(model.opset_import)
    )
    found = zip(node.output, ReferenceEvaluator(single).run(None, values), strict=True)
    return {name: numpy_helper.from_array(np.asarray(value), name) for name, value in found}
