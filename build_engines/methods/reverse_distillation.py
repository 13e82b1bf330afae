"""Reverse Distillation from One-Class Embedding (Deng & Li 2022, arXiv 2201.10703)."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from build_engines.methods.base import OptimizerSettings, Options
from build_engines.methods.features import cosine, embedding, float32, length_loss, smooth
from build_engines.methods.stages import Map, StageMethod
from build_engines.networks.resnet import ARCHITECTURES, ResNetTrunk
from build_engines.networks.reverse import ReverseStudent
from build_engines.networks.seeding import seeded

# The paper's 4 pixels, at the map's quarter of the image's size.
_SIGMA = 1.0


class ReverseDistillationOptions(Options):
    """Attributes:
    loss: `locations` takes the cosine at each location and its mean, as the paper writes; `flattened` one cosine of
        the whole map, as the authors' code has it: locations of strong features then count for more.
    length_weight: of `length_loss`, which the paper does not have.
    map: `fused` adds the energy that the student misses, see `FusedMap`; `paper` is the sum over stages alone.
    """

    loss: Literal["locations", "flattened"] = "locations"
    length_weight: float = Field(default=0.1, ge=0)
    map: Map = "fused"


class ReverseDistillation(StageMethod):
    """The teacher is the encoder; the student makes its features again from a small embedding of them."""

    name = "rd"
    optimizer: ClassVar[OptimizerSettings] = OptimizerSettings(
        name="adam", learning_rate=1e-3, momentum=0.5, weight_decay=1e-5
    )
    batch_size = 16
    epochs = 24
    corruption = 0.5
    frozen_statistics = 0.4
    schedule = "cosine"
    options = ReverseDistillationOptions
    reads_teacher = True

    def __init__(self, teacher: nn.Module, student: nn.Module, options: ReverseDistillationOptions) -> None:
        super().__init__(teacher, student, options.map)
        self.by_location, self.length_weight = options.loss == "locations", options.length_weight

    @classmethod
    def build(
        cls, teacher: ResNetTrunk, architecture: str, options: ReverseDistillationOptions, seed: int
    ) -> "ReverseDistillation":
        """Bottleneck and decoder for the teacher's architecture."""
        with seeded(seed):
            return cls(teacher, ReverseStudent(ARCHITECTURES[architecture]), options)

    def imitate(self, images: Tensor, targets: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The encoder's features as the decoder makes them again."""
        features: tuple[Tensor, ...] = self.student(tuple(float32(target) for target in targets))
        return features

    def compare(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> Tensor:
        """Sum over stages of 1 - cosine similarity (equations 1 and 2), and of the lengths' loss."""
        distance = _by_location if self.by_location else _flattened
        return torch.stack(
            [
                distance(target, found) + self.length_weight * length_loss(target, found)
                for target, found in zip(targets, features, strict=True)
            ]
        ).sum()

    def inspect(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Sum over stages of 1 - cosine, or the fused map, smoothed; the score is its maximum (section 3.4)."""
        anomaly_map = smooth(self.anomaly_map(targets, features), _SIGMA)
        return anomaly_map, anomaly_map.amax((1, 2)), embedding(targets)


def _by_location(target: Tensor, features: Tensor) -> Tensor:
    return 1.0 - cosine(target, features).mean()


def _flattened(target: Tensor, features: Tensor) -> Tensor:
    return 1.0 - functional.cosine_similarity(target.float().flatten(1), features.float().flatten(1)).mean()
