"""The rules of TensorRT 8.5 for Q/DQ: where quantized tensors begin and end, and how they are scaled."""

from collections.abc import Callable, Iterator

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from engines.onnx_graph import GraphFacts, attribute, title
from engines.tensorrt_form import Form


def _quantizers(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if len(node.input) < 3 or any(name not in facts.constants for name in node.input[1:3]):
            yield f"{title(node)} needs scale and zero point as constants."
            continue
        scale, zero = (numpy_helper.to_array(facts.constants[name]) for name in node.input[1:3])
        if zero.dtype != np.int8 or np.any(zero):
            yield f"{title(node)} must be int8 with zero point 0."
        if not np.all(scale > 0) or not np.all(np.isfinite(scale)):
            yield f"{title(node)} has a scale that is not positive."
        if scale.ndim and not _is_weight(facts, node):
            yield f"{title(node)} scales an activation per channel; TensorRT 8.5 takes one scale a tensor."


def _pairs(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type == "QuantizeLinear":
            readers = {reader.op_type for name in node.output for reader in facts.consumers.get(name, [])}
            if readers != {"DequantizeLinear"}:
                yield f"{title(node)} must be followed by DequantizeLinear alone."
        if node.op_type == "DequantizeLinear":
            source = facts.producer(node.input[0])
            if source == "constant" and form == "tensorrt":
                yield f"{title(node)} reads int8 weights; write TensorRT's form with build-engines export."
            elif source not in ("constant", "QuantizeLinear"):
                yield f"{title(node)} must follow a QuantizeLinear."
            elif source == "QuantizeLinear" and not _same_scale(facts, facts.producers[node.input[0]], node):
                yield f"{title(node)} has another scale or axis than the QuantizeLinear that it follows."


def _convolutions(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        activation, weight = (facts.producer(name) == "DequantizeLinear" for name in node.input[:2])
        if activation != weight:
            yield f"{title(node)} is quantized on one side only."
        if weight:
            yield from _weights(facts, node)
        if len(node.input) > 2 and facts.producer(node.input[2]) != "constant":
            yield f"{title(node)} has a bias that is not a plain constant."
        elif len(node.input) > 2 and facts.constants[node.input[2]].data_type != TensorProto.FLOAT:
            yield f"{title(node)} has a bias that is not float32."


def _weights(facts: GraphFacts, convolution: NodeProto) -> Iterator[str]:
    dequantize = facts.producers[convolution.input[1]]
    scale = facts.constants.get(dequantize.input[1])
    if scale is None:
        return
    per_channel = bool(scale.dims)
    if convolution.op_type == "ConvTranspose" and per_channel:
        yield f"{title(convolution)} has weights scaled per channel; TensorRT 8.5 takes one scale for ConvTranspose."
    if convolution.op_type == "Conv" and (not per_channel or attribute(dequantize, "axis", 1) != 0):
        yield f"{title(convolution)} must have weights scaled per channel on axis 0."


def _residuals(facts: GraphFacts, form: Form) -> Iterator[str]:
    for node in facts.nodes:
        if node.op_type != "Add":
            continue
        sources = [facts.producers[name] for name in node.input if facts.producer(name) == "Conv"]
        quantized = [source for source in sources if facts.producer(source.input[0]) == "DequantizeLinear"]
        if quantized and "DequantizeLinear" not in {facts.producer(name) for name in node.input}:
            yield f"{title(node)} adds to a quantized convolution and has no Q/DQ on its identity input."
        for name in node.input:
            if facts.producer(name) == "DequantizeLinear" and not sources:
                before = facts.producers[facts.producers[name].input[0]].input[0]
                if facts.producer(before) == "Conv":
                    yield f"{title(node)} has Q/DQ between the convolution and itself."


def _same_scale(facts: GraphFacts, quantize: NodeProto, dequantize: NodeProto) -> bool:
    scales = [facts.constants[node.input[1]] for node in (quantize, dequantize) if node.input[1] in facts.constants]
    values = [numpy_helper.to_array(scale) for scale in scales]
    axes = {attribute(node, "axis", 1) for node in (quantize, dequantize)}
    if len(values) < 2:
        # Scales that are no constants are another rule's.
        return True
    return np.array_equal(values[0], values[1]) and (len(axes) == 1 or not values[0].ndim)


def _is_weight(facts: GraphFacts, node: NodeProto) -> bool:
    if node.op_type == "DequantizeLinear" and facts.producer(node.input[0]) == "QuantizeLinear":
        node = facts.producers[node.input[0]]
    return facts.producer(node.input[0]) == "constant"


QUANTIZATION_RULES: tuple[Callable[[GraphFacts, Form], Iterator[str]], ...] = (
    _quantizers,
    _pairs,
    _convolutions,
    _residuals,
)
