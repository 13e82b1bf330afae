"""STFPM: Student-Teacher Feature Pyramid Matching (Wang et al. 2021, arXiv 2103.04257)."""

from functools import reduce
from operator import mul
from typing import ClassVar

import torch
from torch import Tensor

from build_engines.methods.base import OptimizerSettings, Options
from build_engines.methods.features import cosine, distance_maps, embedding
from build_engines.methods.stages import StageMethod
from build_engines.networks.resnet import ResNetTrunk, build_trunk


class Stfpm(StageMethod):
    """Teacher and student are the same trunk; the student starts random and matches three stages."""

    name = "stfpm"
    optimizer: ClassVar[OptimizerSettings] = OptimizerSettings(learning_rate=0.4, momentum=0.9, weight_decay=1e-4)
    batch_size = 32
    epochs = 30

    @classmethod
    def build(cls, teacher: ResNetTrunk, architecture: str, options: Options, seed: int) -> "Stfpm":
        """A student of the teacher's architecture."""
        return cls(teacher, build_trunk(architecture, seed))

    def compare(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> Tensor:
        """Sum over stages of the mean over locations of 1/2 ||t - s||^2 of unit vectors (equations 1 to 4).

        That is 1 - cosine.
        """
        stages = zip(targets, features, strict=True)
        return torch.stack([1.0 - cosine(target, found).mean() for target, found in stages]).sum()

    def inspect(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Product over stages of 1 - cosine, which is 1/2 ||t - s||^2 of unit vectors (section 3.3)."""
        anomaly_map = reduce(mul, distance_maps(targets, features)).squeeze(1)
        return anomaly_map, anomaly_map.amax((1, 2)), embedding(targets)
