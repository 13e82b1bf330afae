"""STFPM: Student-Teacher Feature Pyramid Matching (Wang et al. 2021, arXiv 2103.04257)."""

from functools import reduce
from operator import mul
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from build_engines.methods.base import Method, OptimizerSettings, Options
from build_engines.networks.resnet import ResNetTrunk, build_trunk

# Keeps the square root's slope finite where a location has no activation at all.
_EPSILON = 1e-12


class Stfpm(Method):
    """Teacher and student are the same trunk; the student starts random and matches three stages."""

    name = "stfpm"
    optimizer: ClassVar[OptimizerSettings] = OptimizerSettings(learning_rate=0.4, momentum=0.9, weight_decay=1e-4)
    batch_size = 32
    epochs = 30

    @classmethod
    def build(cls, teacher: ResNetTrunk, architecture: str, options: Options, seed: int) -> "Stfpm":
        """A student of the teacher's architecture."""
        return cls(teacher, build_trunk(architecture, seed))

    def targets(self, images: Tensor) -> tuple[Tensor, ...]:
        """The teacher's stage features, each of unit length over channels."""
        return tuple(_unit_length(features) for features in self.teacher(images))

    def loss(self, images: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
        """Sum over stages of the mean over locations of 1/2 ||t - s||^2 (equations 1 to 4)."""
        stages = zip(targets, self.student(images), strict=True)
        losses = [0.5 * (target.float() - _unit_length(features)).square().sum(1).mean() for target, features in stages]
        return torch.stack(losses).sum()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Product over stages of 1 - cosine, which is 1/2 ||t - s||^2 of unit vectors (section 3.3).

        The map has the size of the first stage, a quarter of the image: upsampling the coarser stages to it instead of
        all three to the image keeps the detail there is, and costs a sixteenth.
        """
        teacher, student = self.teacher(images), self.student(images)
        maps = [(1.0 - _cosine(t, s)).clamp(min=0.0) for t, s in zip(teacher, student, strict=True)]
        sized = [maps[0], *(_upsample(coarse, 2**i) for i, coarse in enumerate(maps[1:], start=1))]
        anomaly_map = reduce(mul, sized).squeeze(1)
        embedding = torch.cat([_unit_length(features.mean((2, 3))) for features in teacher], 1)
        return anomaly_map, anomaly_map.amax((1, 2)), embedding


def _float32(features: Tensor) -> Tensor:
    # A conversion that changes nothing would stand in the exported graph as a Cast.
    return features if features.dtype == torch.float32 else features.float()


def _unit_length(features: Tensor) -> Tensor:
    features = _float32(features)
    return features / (features.square().sum(1, keepdim=True) + _EPSILON).sqrt()


def _cosine(teacher: Tensor, student: Tensor) -> Tensor:
    """[N, C, h, w] twice to [N, 1, h, w], without ever forming the normalised tensors."""
    teacher, student = _float32(teacher), _float32(student)
    lengths = (teacher.square().sum(1, keepdim=True) + _EPSILON) * (student.square().sum(1, keepdim=True) + _EPSILON)
    return (teacher * student).sum(1, keepdim=True) / lengths.sqrt()


def _upsample(maps: Tensor, factor: int) -> Tensor:
    return functional.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)
