"""From PyTorch to ONNX, and from a bundle's ONNX to the form TensorRT 8.5 takes."""

import io
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from build_engines import graph
from build_engines.errors import GraphError
from build_engines.networks.inspection import InspectionNetwork
from engines.bundle import ImageInput, Outputs

# From 18 on, TensorRT 8.5 silently reduces over all axes.
OPSET = 17
INPUT = "images"
MAPS, SCORES, EMBEDDINGS = "maps", "scores", "embeddings"
_STORED_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


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
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The new exporter does not honour opset 17, and the old one says that it is old.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example, True),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=names[:1],
            output_names=[*names[1:], *inside[0], *inside[1]],
            dynamic_axes={name: {0: "batch"} for name in names},
        )
    model = onnx.load_from_string(buffer.getvalue())
    graph.tidy(model)
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


def for_tensorrt(model: ModelProto) -> ModelProto:
    """A copy in TensorRT 8.5's form: float32 weights, and Q before DQ, that give the very integers stored.

    Multiplying an 8-bit integer by its float32 scale and dividing again is off by less than a thousandth, so rounding
    finds the integer.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = graph.initializers(copy)
    nodes = []
    for node in copy.graph.node:
        source = constants.get(node.input[0]) if node.input else None
        if node.op_type == "DequantizeLinear" and source is not None:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
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
    model: ModelProto, dequantize: onnx.NodeProto, stored: TensorProto, scale: TensorProto, axis: int
) -> onnx.NodeProto:
    integers, scales = numpy_helper.to_array(stored), numpy_helper.to_array(scale)
    if scales.ndim:
        scales = scales.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    floats = f"{stored.name}_float"
    model.graph.initializer.append(numpy_helper.from_array((integers * scales).astype(np.float32), floats))
    quantized = f"{stored.name}_quantized"
    inputs = [floats, dequantize.input[1], dequantize.input[2]]
    dequantize.input[0] = quantized
    return helper.make_node("QuantizeLinear", inputs, [quantized], name=quantized, axis=axis)
