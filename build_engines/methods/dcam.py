"""DCAM: distributed convolutional attention in STFPM's student (Jena et al. 2024, arXiv 2405.06467)."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from build_engines.methods.base import OptimizerSettings, Options
from build_engines.methods.features import cosine, embedding
from build_engines.methods.stages import Map, StageMethod
from build_engines.networks.attention import Attention, build_attention
from build_engines.networks.resnet import ResNetTrunk, build_trunk
from build_engines.networks.seeding import seeded


class DcamOptions(Options):
    """Attributes:
    attention: which kind the student has while it trains.
    temperature: of the softmax over locations.
    location_weight: of 1 - cosine over channels at each location, which is what the map measures. The paper's two
        losses look at each channel alone, 0 is the paper's: nothing then ties the channels' relative strengths.
    map: `fused` adds the energy that the student misses, see `FusedMap`; `paper` is the sum over stages alone.
    """

    attention: Attention = "channel"
    temperature: float = Field(default=1.0, gt=0)
    location_weight: float = Field(default=4.0, ge=0)
    map: Map = "fused"


class AttentiveStudent(nn.Module):
    """A trunk, and the attention that its features have in training."""

    def __init__(self, trunk: ResNetTrunk, attention: Attention) -> None:
        super().__init__()
        self.trunk = trunk
        self.attention = nn.ModuleList(build_attention(attention, channels) for channels in trunk.channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised RGB [N, 3, H, W] to the trunk's plain features [N, C, h, w]."""
        features: tuple[Tensor, ...] = self.trunk(images)
        return features

    def attend(self, stages: tuple[Tensor, ...]) -> list[Tensor]:
        """The trunk's features [N, C, h, w] with attention."""
        return [attend(features) for attend, features in zip(self.attention, stages, strict=True)]


class Dcam(StageMethod):
    """STFPM's networks; what differs is what the student is trained with."""

    name = "dcam"
    optimizer: ClassVar[OptimizerSettings] = OptimizerSettings(learning_rate=0.1, momentum=0.9, weight_decay=1e-4)
    batch_size = 32
    epochs = 30
    options = DcamOptions
    training_only = ("attention",)
    corruption = 0.5
    schedule = "cosine"

    def __init__(self, teacher: nn.Module, student: AttentiveStudent, options: DcamOptions) -> None:
        super().__init__(teacher, student, options.map)
        self.temperature, self.location_weight = options.temperature, options.location_weight

    @classmethod
    def build(cls, teacher: ResNetTrunk, architecture: str, options: DcamOptions, seed: int) -> "Dcam":
        """A student of the teacher's architecture, with attention."""
        with seeded(seed):
            student = AttentiveStudent(build_trunk(architecture, seed), options.attention)
        return cls(teacher, student, options)

    def compare(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> Tensor:
        """Sum over stages of relative entropy over space and of 1 - cosine, both for each channel (section III).

        The student's side is the attended features.
        """
        losses = []
        for target, found in zip(targets, self.student.attend(features), strict=True):
            t, s = target.float().flatten(2), found.float().flatten(2)
            logs = torch.log_softmax(s / self.temperature, 2)
            expected = torch.log_softmax(t / self.temperature, 2)
            entropy = functional.kl_div(logs, expected, reduction="none", log_target=True).sum(2).mean()
            losses.append(entropy + 1.0 - functional.cosine_similarity(t, s, dim=2).mean())
            losses.append(self.location_weight * (1.0 - cosine(t, s).mean()))
        return torch.stack(losses).sum()

    def inspect(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Sum over stages of 1 - cosine over channels of the plain features; the score is its maximum."""
        anomaly_map = self.anomaly_map(targets, features)
        return anomaly_map, anomaly_map.amax((1, 2)), embedding(targets)
