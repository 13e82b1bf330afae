"""A small method for tests of training itself."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from build_engines import run, training
from build_engines.methods import METHODS
from build_engines.methods.base import Method, OptimizerSettings, Options
from build_engines.networks.resnet import ResNetTrunk


class ProbeStudent(nn.Conv2d):
    """One convolution to the teacher's first stage."""

    def __init__(self, channels: int) -> None:
        super().__init__(3, channels, 4, 4)
        self.register_buffer("held_out", torch.zeros(()))


class Probe(Method):
    """Without batch normalisation, so that the gradients of a batch's shares add up to the batch's."""

    name = "probe"
    optimizer: ClassVar[OptimizerSettings] = OptimizerSettings(learning_rate=0.01, momentum=0.9, weight_decay=0.0)
    batch_size = 8
    epochs = 4

    PREPARED = "prepared.txt"
    interrupted_in: ClassVar[str] = ""

    @classmethod
    def build(cls, teacher: ResNetTrunk, architecture: str, options: Options, seed: int) -> "Probe":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(teacher, ProbeStudent(teacher.channels[0]))

    def targets(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.teacher(images)[0],)

    def imitate(self, images: Tensor, targets: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.student(images),)

    def compare(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> Tensor:
        return (targets[0].float() - features[0].float()).square().mean()

    def inspect(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        maps = (targets[0] - features[0]).square().mean(1)
        return maps, maps.amax((1, 2)), targets[0].mean((2, 3))

    def prepare(self, pixels: NDArray[np.uint8], folder: Path, seed: int, device: torch.device) -> None:
        path = folder / self.PREPARED
        path.write_text((path.read_text() if path.exists() else "") or str(len(pixels)))
        self._interrupt("prepare")

    def finish(self, pixels: NDArray[np.uint8], device: torch.device) -> None:
        self.student.held_out.fill_(len(pixels))
        self._interrupt("finish")

    def _interrupt(self, stage: str) -> None:
        if self.interrupted_in == stage:
            raise KeyboardInterrupt


class Reader(Probe):
    """Its student's input is the teacher's features.

    Attributes:
        from_shown: of each training batch, how far they are from those of the images it is shown.
        from_clean: how far from those it has to answer with.
    """

    name = "reader"
    reads_teacher = True
    from_shown: ClassVar[list[float]] = []
    from_clean: ClassVar[list[float]] = []

    def loss(self, images: Tensor, targets: tuple[Tensor, ...], seen: tuple[Tensor, ...] | None = None) -> Tensor:
        if self.training and seen is not None:
            self.from_shown.append((seen[0] - self.teacher(images)[0]).abs().max().item())
            self.from_clean.append((seen[0] - targets[0]).abs().max().item())
        return super().loss(images, targets, seen)


def train_all(fabric: Fabric, begun: dict[Path, run.RunRecord]) -> None:
    """One process's part in these runs, of this method among others."""
    METHODS[Probe.name] = Probe
    for folder, record in begun.items():
        training._train_here(fabric, folder, record, resume=False)
