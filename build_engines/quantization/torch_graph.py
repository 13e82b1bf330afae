"""A float ONNX graph in PyTorch, with the rounding that Q/DQ nodes will do: what is fine-tuned is what is exported.

Only the operators between the image and the compared features are known; the anomaly map's head is not run.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from build_engines.quantization.integers import largest_integer
from build_engines.quantization.qdq import Placement
from engines import onnx_graph as graph
from engines.errors import GraphError


@dataclass(frozen=True)
class Rounding:
    """What `qdq.insert` will be given."""

    placement: Placement
    scales: Mapping[str, np.float32]
    weight_bits: int = 8
    activation_bits: int = 8


class TorchGraph(nn.Module):
    """The part of a graph that some of its tensors need.

    Args:
        model: the float graph.
        outputs: names of the tensors that are wanted.
        trained: names of the convolutions whose weights and biases are parameters.
        rounding: None leaves all in floating point.

    Raises GraphError where the part holds an operator that is not known here.
    """

    def __init__(
        self,
        model: ModelProto,
        outputs: Sequence[str],
        trained: Collection[str],
        rounding: Rounding | None = None,
    ) -> None:
        super().__init__()
        self._outputs = tuple(outputs)
        self._nodes = _needed(model, outputs)
        self._rounding = rounding
        self._layers = frozenset(rounding.placement.layers) if rounding else frozenset()
        self._identities = rounding.placement.identities if rounding else {}
        constants = graph.initializers(model)
        parameters = {
            name for node in self._nodes if node.name in trained for name in node.input[1:] if name in constants
        }
        # Tensor names hold dots and slashes, which parameters' names may not.
        self._index: dict[str, str] = {}
        for node in self._nodes:
            for name in node.input:
                if name in constants and name not in self._index:
                    self._index[name] = f"constant{len(self._index)}"
                    value = torch.from_numpy(numpy_helper.to_array(constants[name]).copy())
                    if name in parameters:
                        self.register_parameter(self._index[name], nn.Parameter(value))
                    else:
                        self.register_buffer(self._index[name], value)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """uint8 [N, H, W, 3] to the outputs."""
        values: dict[str, Tensor] = {self._nodes[0].input[0]: pixels}
        rounded: dict[str, Tensor] = {}
        for node in self._nodes:
            inputs = [self._value(name, values) for name in node.input if name]
            if node.name in self._layers:
                inputs[0] = self._rounded(node.input[0], inputs[0], rounded)
                inputs[1] = self._rounded_weight(inputs[1])
            elif (identity := self._identities.get(node.name)) is not None:
                place = list(node.input).index(identity)
                inputs[place] = self._rounded(identity, inputs[place], rounded)
            values[node.output[0]] = _OPERATORS[node.op_type](node, *inputs)
        return tuple(values[name] for name in self._outputs)

    def write_into(self, model: ModelProto) -> ModelProto:
        """A copy of the graph with the parameters as they are now."""
        copy = graph.copied(model)
        known = dict(self.named_parameters())
        for tensor in copy.graph.initializer:
            parameter = known.get(self._index.get(tensor.name, ""))
            if parameter is not None:
                tensor.CopyFrom(numpy_helper.from_array(parameter.detach().cpu().float().numpy(), tensor.name))
        return copy

    def _value(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        found = values.get(name)
        return getattr(self, self._index[name]) if found is None else found

    def _rounded(self, name: str, value: Tensor, rounded: dict[str, Tensor]) -> Tensor:
        if name not in rounded:
            most = largest_integer(self._rounding.activation_bits)
            scale = float(self._rounding.scales[name])
            rounded[name] = torch.fake_quantize_per_tensor_affine(value.float(), scale, 0, -most, most)
        return rounded[name]

    def _rounded_weight(self, weight: Tensor) -> Tensor:
        most = largest_integer(self._rounding.weight_bits)
        scales = (weight.detach().abs().amax((1, 2, 3)) / most).clamp(min=1e-12)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -most, most)


def _needed(model: ModelProto, outputs: Sequence[str]) -> list[NodeProto]:
    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if any(name in wanted for name in node.output):
            if node.op_type not in _OPERATORS:
                raise GraphError(f"{node.op_type} {node.name} cannot be fine-tuned; quantize with --mode ptq.")
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _attributes(node: NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _conv(node: NodeProto, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    given = _attributes(node)
    top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    stride, dilation = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    return functional.conv2d(x, weight, bias, stride, (top, left), dilation, given.get("group", 1))


def _max_pool(node: NodeProto, x: Tensor) -> Tensor:
    given = _attributes(node)
    top, left, *_ = given.get("pads", [0, 0, 0, 0])
    return functional.max_pool2d(x, given["kernel_shape"], given.get("strides", [1, 1]), (top, left))


def _pad(node: NodeProto, x: Tensor, pads: Tensor, *_: Tensor) -> Tensor:
    before, after = pads.tolist()[: x.ndim], pads.tolist()[x.ndim :]
    return functional.pad(x, [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair])


def _slice(node: NodeProto, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Tensor) -> Tensor:
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
        size = x.shape[axis]
        start, end = (max(0, place + size) if place < 0 else min(place, size) for place in (start, end))
        x = x.narrow(axis, start, end - start)
    return x


def _cast(node: NodeProto, x: Tensor) -> Tensor:
    return x.float() if _attributes(node)["to"] == TensorProto.FLOAT else x


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda node, a, b: a + b,
    "Cast": _cast,
    "Concat": lambda node, *inputs: torch.cat(inputs, _attributes(node)["axis"]),
    "Conv": _conv,
    "DepthToSpace": lambda node, x: functional.pixel_shuffle(x, _attributes(node)["blocksize"]),
    "Div": lambda node, a, b: a / b,
    "Max": lambda node, a, b: torch.maximum(a, b),
    "MaxPool": _max_pool,
    "Mul": lambda node, a, b: a * b,
    "Pad": _pad,
    "Relu": lambda node, x: functional.relu(x),
    "Slice": _slice,
    "Sub": lambda node, a, b: a - b,
    "Transpose": lambda node, x: x.permute(_attributes(node)["perm"]),
}
