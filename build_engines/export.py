"""From PyTorch to ONNX."""

import io
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass

import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from build_engines.graph import tidy
from build_engines.networks.inspection import InspectionNetwork
from engines import onnx_graph as graph
from engines.bundle import ImageInput, Outputs
from engines.errors import GraphError

# From 18 on, TensorRT 8.5 silently reduces over all axes.
OPSET = 17
INPUT = "images"
MAPS, SCORES, EMBEDDINGS = "maps", "scores", "embeddings"


@dataclass(frozen=True)
class Exported:
    """The float32 graph, opset 17, and what it takes and gives.

    Attributes:
        targets, features: names of the tensors inside that the method's training loss compares.
    """

    model: ModelProto
    input: ImageInput
    outputs: Outputs
    targets: tuple[str, ...]
    features: tuple[str, ...]


def to_onnx(network: InspectionNetwork, image_size: int) -> Exported:
    """Export a network with a dynamic batch; batch normalisation is folded into the convolutions.

    Args:
        network: on the CPU; it is put into eval mode.
        image_size: height and width in pixels.

    Raises GraphError where a module that belongs to training alone is in the graph.
    """
    network.eval()
    example = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)
    with torch.no_grad():
        images = network.normalize(example)
        targets = network.method.targets(images)
        features = network.method.imitate(images, targets)
        maps, _, embeddings = network.method.inspect(targets, features)
    inside = (
        tuple(f"targets.{i}" for i in range(len(targets))),
        tuple(f"features.{i}" for i in range(len(features))),
    )
    names = [INPUT, MAPS, SCORES, EMBEDDINGS]
    model = traced(network, (example, True), names[:1], [*names[1:], *inside[0], *inside[1]], names)
    del model.graph.output[len(names) - 1 :]
    require_absent(model, network.method.training_only)
    model.producer_name = "unispect"
    image_input = ImageInput(name=INPUT, height=image_size, width=image_size)
    outputs = Outputs(
        maps=MAPS,
        scores=SCORES,
        embeddings=EMBEDDINGS,
        map_height=maps.shape[1],
        map_width=maps.shape[2],
        embedding_size=embeddings.shape[1],
    )
    return Exported(model, image_input, outputs, *inside)


def traced(
    network: nn.Module, example: tuple[object, ...], inputs: list[str], outputs: list[str], batched: list[str]
) -> ModelProto:
    """A network's graph, opset 17, tidied.

    Args:
        example: what the network is called with.
        batched: inputs and outputs whose first axis is dynamic.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The new exporter does not honour opset 17, and the old one says that it is old.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            example,
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in batched},
        )
    model = onnx.load_from_string(buffer.getvalue())
    tidy(model)
    return model


def require_absent(model: ModelProto, modules: Collection[str]) -> None:
    """Raises GraphError where one of the modules, named as in PyTorch, has left a node in the graph."""
    for node in model.graph.node:
        for module in modules:
            if module in re.split(r"[/.]", node.name):
                raise GraphError(
                    f"The graph holds {node.name}, and {module} belongs to training alone; export it anew."
                )


def store_weights_as(model: ModelProto, kind: int, layers: Collection[str] | None = None) -> None:
    """Keep convolution weights as FLOAT16 or BFLOAT16, with a Cast to float32 before each convolution.

    Args:
        kind: FLOAT16 or BFLOAT16 of onnx's TensorProto.
        layers: names of the convolutions; None for all. None of them may be quantized.
    """
    constants = graph.initializers(model)
    nodes = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and (layers is None or node.name in layers):
            weight = constants[node.input[1]]
            stored = f"{weight.name}_stored"
            values = numpy_helper.to_array(weight)
            dtype = helper.tensor_dtype_to_np_dtype(kind)
            model.graph.initializer.append(numpy_helper.from_array(values.astype(dtype), stored))
            widened = f"{weight.name}_widened"
            nodes.append(helper.make_node("Cast", [stored], [widened], name=widened, to=TensorProto.FLOAT))
            node.input[1] = widened
        nodes.append(node)
    graph.replace_nodes(model, nodes)
    graph.prune(model)
