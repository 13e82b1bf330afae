"""Cross-layer equalization: activations get channels of like range, and the float graph still computes the same.

An int8 activation has one scale for all channels, so a channel of small range is left with a few levels. ReLU, MaxPool
and residual addition commute with a positive factor per channel: the convolutions that produce a tensor divide it out
of their rows, those that read it multiply it into their columns (Nagel et al. 2019, arXiv 1906.04721, section 4.1),
and whatever else reads it, the anomaly map's head, multiplies it back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from build_engines.quantization.defaults import EQUALIZATION
from engines import onnx_graph as graph

_RESTORED = "{}_restored"
_SMALLEST_FACTOR = 0.01
_COMMUTES = frozenset({"Relu", "MaxPool"})


@dataclass
class _Stream:
    """Tensors that share their channels' factors: one residual stream, or the inside of one block."""

    tensors: set[str] = field(default_factory=set)


def streams(model: ModelProto) -> list[frozenset[str]]:
    """Groups of tensors that convolutions produce and that ReLU, MaxPool and Add keep together."""
    member: dict[str, _Stream] = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            member[node.output[0]] = _Stream({node.output[0]})
        elif node.op_type in _COMMUTES and node.input[0] in member:
            _join(member, node.input[0], node.output[0])
        elif node.op_type == "Add" and all(name in member for name in node.input):
            _join(member, *node.input, node.output[0])
    return [frozenset(stream.tensors) for stream in {id(stream): stream for stream in member.values()}.values()]


def equalize(
    model: ModelProto, ranges: Mapping[str, NDArray[np.float32]], strength: float = EQUALIZATION
) -> ModelProto:
    """A copy of the float graph with equalized activations.

    Args:
        ranges: largest magnitude per channel [C] of each activation that will be quantized.
        strength: 0 changes nothing, 1 gives all channels the same range.
    """
    copy = graph.copied(model)
    weights = {name: numpy_helper.to_array(tensor) for name, tensor in graph.initializers(copy).items()}
    factors: dict[str, NDArray[np.float32]] = {}
    for stream in streams(copy):
        seen = [ranges[name] for name in stream if name in ranges]
        if seen:
            largest = np.maximum.reduce(seen)
            relative = np.maximum(largest / max(float(largest.max()), 1e-12), _SMALLEST_FACTOR)
            factors |= dict.fromkeys(stream, (relative**strength).astype(np.float32))
    changed = _rewrite_convolutions(copy, weights, factors)
    _restore_elsewhere(copy, factors)
    for tensor in copy.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return copy


def restored(model: ModelProto, names: Iterable[str]) -> tuple[str, ...]:
    """Names of the tensors that hold in a graph, equalized or not, what these hold in the float graph."""
    made = graph.producers(model)
    return tuple(_RESTORED.format(name) if _RESTORED.format(name) in made else name for name in names)


def _join(member: dict[str, _Stream], *names: str) -> None:
    merged = _Stream(set(names).union(*(member[name].tensors for name in names if name in member)))
    for name in merged.tensors:
        member[name] = merged


def _rewrite_convolutions(
    model: ModelProto, weights: Mapping[str, NDArray[np.float32]], factors: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    changed: dict[str, NDArray[np.float32]] = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        weight = weights[node.input[1]]
        if (columns := factors.get(node.input[0])) is not None:
            weight = weight * columns.reshape(1, -1, 1, 1)
        if (rows := factors.get(node.output[0])) is not None:
            weight = weight / rows.reshape(-1, 1, 1, 1)
            if len(node.input) > 2:
                changed[node.input[2]] = weights[node.input[2]] / rows
        changed[node.input[1]] = weight
    return changed


def _restore_elsewhere(model: ModelProto, factors: Mapping[str, NDArray[np.float32]]) -> None:
    nodes: list[NodeProto] = []
    restored: set[str] = set()
    for node in model.graph.node:
        inside = node.op_type == "Conv" or any(name in factors for name in node.output)
        for position, name in enumerate(node.input):
            if inside or name not in factors:
                continue
            output = _RESTORED.format(name)
            if name not in restored:
                restored.add(name)
                factor = f"{name}_factor"
                model.graph.initializer.append(graph.scalar_or_vector(factor, factors[name].reshape(1, -1, 1, 1)))
                nodes.append(helper.make_node("Mul", [name, factor], [output], name=output))
            node.input[position] = output
        nodes.append(node)
    graph.replace_nodes(model, nodes)
