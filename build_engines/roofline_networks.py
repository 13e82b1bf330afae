"""The graphs that estimates are made of: every method's, at any precision, and MLPerf's ResNet as the check.

Cost does not depend on weights or scales, so that weights are random and scales are one.
"""

from typing import Literal

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from build_engines.export import to_onnx, traced
from build_engines.methods import build_method
from build_engines.networks.inspection import InspectionNetwork
from build_engines.networks.resnet import ARCHITECTURES, build_trunk
from build_engines.quantization import qdq
from build_engines.roofline_graph import Kernel, kernels_of

EstimatedPrecision = Literal["fp32", "fp16", "int8", "int8-student"]

# Blocks of layer4, which no trunk here has.
_LAST_STAGE = {"resnet18": 2, "resnet34": 3, "resnet50": 3}
_IMAGENET_CLASSES = 1000


def method_graph(method: str, teacher: str = "resnet18", image_size: int = 256) -> ModelProto:
    """A method's float graph as it is exported, with its default options."""
    network = build_method(method, build_trunk(teacher, seed=0), teacher, {}, seed=1)
    return to_onnx(InspectionNetwork(network), image_size).model


def classifier_graph(architecture: str, image_size: int = 224) -> ModelProto:
    """The float graph of a whole ResNet that classifies ImageNet, normalised images in.

    Raises KeyError where the architecture is none of ResNet-18, 34 and 50.
    """
    network = _Classifier(architecture).eval()
    example = torch.zeros(1, 3, image_size, image_size)
    return traced(network, (example,), ["images"], ["classes"], ["images", "classes"])


def kernels_at(model: ModelProto, precision: EstimatedPrecision, batch: int = 1) -> list[Kernel]:
    """Kernels of a float graph at a precision.

    Args:
        precision: int8 quantizes all convolutions as a bundle's are; int8-student leaves the teacher's in fp32, as
            arXiv 2407.02968 does.
        batch: images at once.
    """
    if precision in ("fp32", "fp16"):
        return kernels_of(model, batch, precision)
    teachers = [node.name for node in model.graph.node if node.op_type == "Conv" and "/teacher/" in node.name]
    placement = qdq.place(model, teachers if precision == "int8-student" else ())
    scales = dict.fromkeys(placement.tensors, np.float32(1))
    return kernels_of(qdq.insert(model, placement, scales), batch)


class _Classifier(nn.Module):
    """A trunk with its last stage and a classifier, which is a 1 x 1 convolution, as INT8 engines have it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        architecture = ARCHITECTURES[name]
        self.trunk = build_trunk(name, seed=0)
        self.layer4 = architecture.stage(architecture.channels[2], 4, _LAST_STAGE[name], 2)
        self.fc = nn.Conv2d(architecture.channels[3], _IMAGENET_CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] to the classes' logits, [N, 1000]."""
        features = self.layer4(self.trunk(images)[-1])
        return self.fc(nn.functional.adaptive_avg_pool2d(features, 1)).flatten(1)
