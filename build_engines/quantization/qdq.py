"""Q/DQ placement by TensorRT 8.5's rules.

Every convolution reads int8 activations (one scale a tensor) and int8 weights (one scale an output channel). On a
residual Add the identity input is quantized and the path from the convolution is not, so that TensorRT fuses
convolution, addition and ReLU. Everything else, the anomaly map's head above all, stays in floating point.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from build_engines.quantization.integers import largest_integer, weight_integers
from engines import onnx_graph as graph


@dataclass(frozen=True)
class Placement:
    """Which convolutions are quantized, by node name, and which activations need scales, by tensor name."""

    layers: tuple[str, ...]
    identities: dict[str, str]
    tensors: tuple[str, ...]


def place(model: ModelProto, keep_float: Collection[str] = ()) -> Placement:
    """Decide what is quantized in a float graph.

    Args:
        keep_float: names of convolutions that stay in floating point.
    """
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.name not in keep_float]
    made_by = {output: node for node in convolutions for output in node.output}
    identities = {}
    for node in model.graph.node:
        if node.op_type == "Add" and (identity := _identity_input(node, made_by)):
            identities[node.name] = identity
    tensors = dict.fromkeys([*(node.input[0] for node in convolutions), *identities.values()])
    return Placement(tuple(node.name for node in convolutions), identities, tuple(tensors))


def insert(
    model: ModelProto,
    placement: Placement,
    scales: Mapping[str, np.float32],
    weight_bits: int = 8,
    activation_bits: int = 8,
) -> ModelProto:
    """A copy of the float graph with Q/DQ on activations and int8 weights behind DQ.

    Fewer than 8 bits are simulated: the integers keep to the smaller range, activations by a Clip, and are int8 still.

    Args:
        scales: of each of `placement.tensors`, for `activation_bits`.
    """
    copy = graph.copied(model)
    constants = graph.initializers(copy)
    copy.graph.initializer.append(graph.scalar_or_vector("zero_point", np.int8(0)))
    quantized = set(placement.layers)
    nodes: list[NodeProto] = []
    for name in (tensor.name for tensor in copy.graph.input):
        nodes += _activation(copy, name, scales, activation_bits)
    for node in copy.graph.node:
        if node.name in quantized:
            node.input[0] = _dequantized(node.input[0])
            nodes.append(_weight(copy, node, numpy_helper.to_array(constants[node.input[1]]), weight_bits))
        elif identity := placement.identities.get(node.name):
            node.input[:] = [_dequantized(name) if name == identity else name for name in node.input]
        nodes.append(node)
        for name in node.output:
            nodes += _activation(copy, name, scales, activation_bits)
    graph.replace_nodes(copy, nodes)
    graph.prune(copy)
    return copy


def _identity_input(add: NodeProto, made_by: Mapping[str, NodeProto]) -> str | None:
    """The input of a residual Add that does not come from the block's last convolution."""
    from_convolution = [name for name in add.input if name in made_by]
    if not from_convolution:
        return None
    # With a convolution on both sides, the shortcut's is the second: `y + downsample(x)`.
    return next((name for name in add.input if name not in made_by), add.input[1])


def _activation(model: ModelProto, name: str, scales: Mapping[str, np.float32], bits: int) -> list[NodeProto]:
    if name not in scales:
        return []
    scale = f"{name}_scale"
    model.graph.initializer.append(graph.scalar_or_vector(scale, np.float32(scales[name])))
    nodes, kept = _clipped(model, name, np.float32(scales[name] * largest_integer(bits))) if bits < 8 else ([], name)
    integers = f"{name}_quantized"
    return [
        *nodes,
        helper.make_node("QuantizeLinear", [kept, scale, "zero_point"], [integers], name=integers),
        helper.make_node(
            "DequantizeLinear", [integers, scale, "zero_point"], [_dequantized(name)], name=_dequantized(name)
        ),
    ]


def _clipped(model: ModelProto, name: str, limit: np.float32) -> tuple[list[NodeProto], str]:
    output, low, high = f"{name}_clipped", f"{name}_low", f"{name}_high"
    model.graph.initializer.extend([graph.scalar_or_vector(low, -limit), graph.scalar_or_vector(high, limit)])
    return [helper.make_node("Clip", [name, low, high], [output], name=output)], output


def _weight(model: ModelProto, convolution: NodeProto, values: NDArray[np.float32], bits: int) -> NodeProto:
    name = convolution.input[1]
    integers, scales = weight_integers(values, bits)
    model.graph.initializer.extend(
        [
            graph.scalar_or_vector(f"{name}_int8", integers),
            graph.scalar_or_vector(f"{name}_scale", scales),
            graph.scalar_or_vector(f"{name}_zero_point", np.zeros(len(scales), np.int8)),
        ]
    )
    convolution.input[1] = _dequantized(name)
    inputs = [f"{name}_int8", f"{name}_scale", f"{name}_zero_point"]
    return helper.make_node("DequantizeLinear", inputs, [_dequantized(name)], name=_dequantized(name), axis=0)


def _dequantized(name: str) -> str:
    return f"{name}_dequantized"
