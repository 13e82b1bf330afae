"""Which tensors of a network may be FP16, and the graph that says so to libraries that take types from the graph.

FP16 ends at 65504 and at 6e-8. Features of trained networks stay within it (at most 166 in the bundles measured), but
the anomaly map's head multiplies their squared lengths: sums reach 7e5 and products 1e7 in Reverse Distillation, 3e5 in
STFPM and DCAM. They overflow, and the 1e-12 that keeps quotients finite where there are no features is zero. With the
head alone in FP16, on 112 pictures of four real classes, Reverse Distillation with its paper's map gave five of them no
number and fell from an AUROC of 0.884 to 0.814, DCAM from 0.809 to 0.774: what the papers' engines lost. With the trunk
alone in FP16 the maps differ by a thousandth to a hundredth. So what lies behind the features stays in float32, and
with it what the golden image drives near the end of the range: the cosine losses leave the student's lengths free, so
that no bound is built in.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines import onnx_graph as graph

LARGEST = 65504.0
# A picture may drive a tensor to so many times what the golden image does.
HEADROOM = 32.0
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
# What a convolution is fused with where it stands at the end of a trunk.
_FINISHERS = frozenset({"Add", "Clip", "DepthToSpace", "LeakyRelu", "Relu"})


def trunk(model: ModelProto) -> set[str]:
    """The tensors that convolutions give, and all between and directly behind them up to the features."""
    return _parts(model)[0]


def head(model: ModelProto) -> set[str]:
    """The tensors behind the features: anomaly map, score and embedding, and all that they are computed from."""
    return _parts(model)[1]


def near_the_end(magnitudes: Mapping[str, float]) -> set[str]:
    """Of tensors and the largest magnitude that each reached on the golden image, those that may pass FP16's end."""
    return {name for name, largest in magnitudes.items() if not largest * HEADROOM <= LARGEST}


def magnitudes(model: ModelProto, pixels: NDArray[np.uint8]) -> dict[str, float]:
    """The largest magnitude of each of the trunk's tensors on images, computed in float32 by ONNX Runtime.

    Args:
        model: a graph with float32 activations.
        pixels: uint8 [N, H, W, 3].

    Raises ImportError where ONNX Runtime is not installed.
    """
    import onnxruntime as ort

    watched = graph.copied(model)
    names = sorted(trunk(model))
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(names, 0.0)
    for image in pixels:
        values = session.run(names, {watched.graph.input[0].name: image[None]})
        for name, value in zip(names, values, strict=True):
            largest[name] = max(largest[name], float(np.abs(value).max()))
    return largest


def in_half(model: ModelProto, keep_float: Collection[str] = ()) -> ModelProto:
    """A copy of a float32 graph whose trunk computes in FP16, with a Cast wherever the type changes.

    Args:
        keep_float: tensors of the trunk that stay float32, see `near_the_end`; with them stay those whose weights
            FP16 cannot hold.
    """
    copy = graph.copied(model)
    constants = graph.initializers(copy)
    halves = trunk(copy) - set(keep_float) - {output.name for output in copy.graph.output}
    halves -= {name for node in copy.graph.node if not _fits(node, constants) for name in node.output}
    casts = _Casts(copy, constants)
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        half = node.output[0] in halves
        for place, name in enumerate(node.input):
            if name in constants:
                # A resize takes its scales in float32 alone.
                node.input[place] = casts.constant(name) if half and node.op_type != "Resize" else name
            elif name and half != (name in halves):
                made, node.input[place] = casts.activation(name, TensorProto.FLOAT16 if half else TensorProto.FLOAT)
                nodes += made
        nodes.append(node)
    graph.replace_nodes(copy, nodes)
    graph.prune(copy)
    del copy.graph.value_info[:]
    return copy


class _Casts:
    """What was converted already, so that each tensor is converted once."""

    def __init__(self, model: ModelProto, constants: Mapping[str, TensorProto]) -> None:
        self._model = model
        self._constants = constants
        self._made: set[str] = set()

    def constant(self, name: str) -> str:
        """The constant in FP16, where it is float32."""
        tensor = self._constants[name]
        if tensor.data_type != TensorProto.FLOAT:
            return name
        if self._is_new(half := f"{name}_half"):
            values = numpy_helper.to_array(tensor).astype(np.float16)
            self._model.graph.initializer.append(numpy_helper.from_array(values, half))
        return half

    def activation(self, name: str, kind: int) -> tuple[list[NodeProto], str]:
        """The Cast where there is none yet, and its output."""
        cast = f"{name}_{'half' if kind == TensorProto.FLOAT16 else 'float'}"
        made = [helper.make_node("Cast", [name], [cast], name=cast, to=kind)] if self._is_new(cast) else []
        return made, cast

    def _is_new(self, name: str) -> bool:
        known = name in self._made
        self._made.add(name)
        return not known


def _parts(model: ModelProto) -> tuple[set[str], set[str]]:
    facts = graph.GraphFacts(model)
    convolutions = [node for node in facts.nodes if node.op_type in _CONVOLUTIONS]
    ahead = _reached(convolutions, lambda node: [facts.producers[n] for n in node.input if n in facts.producers])
    behind = _reached(convolutions, lambda node: [reader for n in node.output for reader in facts.consumers.get(n, [])])
    tensors = {name for node in convolutions for name in node.output} | (ahead & behind)
    for node in facts.nodes:
        sources = [name for name in node.input if name and name not in facts.constants]
        if node.op_type in _FINISHERS and sources and tensors.issuperset(sources):
            tensors.update(node.output)
    return tensors, behind - tensors


def _reached(start: Iterable[NodeProto], step: Callable[[NodeProto], list[NodeProto]]) -> set[str]:
    """Outputs of the nodes that steps lead to; of a starting node only where steps lead to it."""
    found: set[str] = set()
    waiting = deque(start)
    while waiting:
        for node in step(waiting.popleft()):
            if node.output[0] not in found:
                found.update(node.output)
                waiting.append(node)
    return found


def _fits(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    return all(
        np.abs(numpy_helper.to_array(constants[name])).max(initial=0) <= LARGEST
        for name in node.input
        if name in constants and constants[name].data_type == TensorProto.FLOAT
    )
