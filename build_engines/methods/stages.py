"""What the methods share that compare two networks stage by stage."""

from typing import Literal

import torch
from torch import Tensor, nn

from build_engines.methods.base import Method
from build_engines.methods.features import distance_maps
from build_engines.methods.fused_map import FusedMap
from build_engines.networks.normalize import Images

Map = Literal["fused", "paper"]


class StageMethod(Method):
    """The teacher is a trunk, and the student makes features of the same shapes.

    Args:
        teacher: gives its stages' features.
        student: gives features from images, unless `imitate` says otherwise.
        chosen_map: `fused` for `FusedMap`, `paper` for the sum over stages of 1 - cosine.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, chosen_map: Map = "paper") -> None:
        super().__init__(teacher, student)
        # In the student, for it is saved with it.
        self.student.map = FusedMap() if chosen_map == "fused" else None

    def targets(self, images: Tensor) -> tuple[Tensor, ...]:
        """The teacher's stage features."""
        features: tuple[Tensor, ...] = self.teacher(images)
        return features

    def imitate(self, images: Tensor, targets: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The student's stage features."""
        features: tuple[Tensor, ...] = self.student(images)
        return features

    def anomaly_map(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> Tensor:
        """The chosen map, [N, h, w]."""
        fused: FusedMap | None = self.student.map
        if fused is not None:
            return fused(targets, features)
        return torch.stack(distance_maps(targets, features)).sum(0).squeeze(1)

    def finish(self, pixels: Images, device: torch.device) -> None:
        """Fit the fused map's constants to held-out good images."""
        if self.student.map is not None:
            self.student.map.fit(lambda: self.pairs(pixels, device))
