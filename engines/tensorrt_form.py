"""From a bundle's ONNX to the form TensorRT 8.5 takes: float32 weights, and Q before DQ."""

from typing import Literal, cast

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines import onnx_graph as graph

Form = Literal["bundle", "tensorrt"]

_STORED_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def for_tensorrt(model: ModelProto) -> ModelProto:
    """A copy in TensorRT 8.5's form: float32 weights, and Q before DQ, that give the very integers stored.

    Multiplying an 8-bit integer by its float32 scale and dividing again is off by less than a thousandth, so rounding
    finds the integer.
    """
    copy = graph.copied(model)
    constants = graph.initializers(copy)
    nodes = []
    for node in copy.graph.node:
        source = constants.get(node.input[0]) if node.input else None
        if node.op_type == "DequantizeLinear" and source is not None:
            axis = cast(int, graph.attribute(node, "axis", 1))
            nodes.append(_quantizer(copy, node, source, constants[node.input[1]], axis))
        elif node.op_type == "Cast" and source is not None and source.data_type in _STORED_FLOATS:
            values = numpy_helper.to_array(source).astype(np.float32)
            copy.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            continue
        nodes.append(node)
    graph.replace_nodes(copy, nodes)
    graph.prune(copy)
    return copy


def _quantizer(
    model: ModelProto, dequantize: NodeProto, stored: TensorProto, scale: TensorProto, axis: int
) -> NodeProto:
    integers, scales = numpy_helper.to_array(stored), numpy_helper.to_array(scale)
    if scales.ndim:
        scales = scales.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    floats = f"{stored.name}_float"
    model.graph.initializer.append(numpy_helper.from_array((integers * scales).astype(np.float32), floats))
    quantized = f"{stored.name}_quantized"
    inputs = [floats, dequantize.input[1], dequantize.input[2]]
    dequantize.input[0] = quantized
    return helper.make_node("QuantizeLinear", inputs, [quantized], name=quantized, axis=axis)
