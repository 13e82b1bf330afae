"""What training, export and benchmarks need of a distillation method."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from build_engines.networks.normalize import Images, normalised_batches
from build_engines.networks.resnet import ResNetTrunk
from build_engines.schedule import Schedule

Pair = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


class OptimizerSettings(BaseModel):
    """Optimiser of a method's paper.

    Attributes:
        momentum: of SGD; the first of Adam's two betas.
        second_beta: of Adam alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    second_beta: float = Field(default=0.999, ge=0, lt=1)
    weight_decay: float = Field(ge=0)

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimiser of these parameters."""
        if self.name == "sgd":
            return SGD(parameters, self.learning_rate, self.momentum, weight_decay=self.weight_decay)
        betas = (self.momentum, self.second_beta)
        return Adam(parameters, self.learning_rate, betas, weight_decay=self.weight_decay)


class Options(BaseModel):
    """What can be chosen of a method beyond what all have; the base has nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(nn.Module, ABC):
    """A frozen teacher, a student trained on good images, and the anomaly map that compares them.

    `student` holds all that is trained. The teacher's features are constants of an image, so that training can
    compute them once: `targets` gives them, `loss` takes them.

    Attributes:
        training_only: names of modules that no exported graph may hold.
        frozen_statistics: share of the epochs, the last ones, that train with batch statistics as they are.
        schedule: of the learning rate, see `Schedule`.
        corruption: share of training images that the student sees with artificial defects, in [0, 1].
        reads_teacher: the student's input is what the teacher gives, not the image.
    """

    name: ClassVar[str]
    optimizer: ClassVar[OptimizerSettings]
    batch_size: ClassVar[int]
    epochs: ClassVar[int]
    options: ClassVar[type[Options]] = Options
    training_only: ClassVar[tuple[str, ...]] = ()
    corruption: ClassVar[float] = 0.0
    frozen_statistics: ClassVar[float] = 0.0
    schedule: ClassVar[Schedule] = "constant"
    reads_teacher: ClassVar[bool] = False

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = student

    def train(self, mode: bool = True) -> "Method":
        """Batch statistics of the frozen teacher stay as they are."""
        super().train(mode)
        self.teacher.eval()
        return self

    @classmethod
    @abstractmethod
    def build(cls, teacher: ResNetTrunk, architecture: str, options: Options, seed: int) -> "Method":
        """The method with an untrained student.

        Args:
            teacher: trained trunk.
            architecture: the trunk's name.
            options: an instance of the class's `options`.
            seed: of the student's random weights.
        """

    @abstractmethod
    def targets(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the teacher makes of normalised RGB [N, 3, H, W]: tensors [N, ...]."""

    @abstractmethod
    def imitate(self, images: Tensor, targets: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the student makes of the same, from the images or from what the teacher gives."""

    @abstractmethod
    def compare(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> Tensor:
        """The training loss between the two, a scalar."""

    def loss(self, images: Tensor, targets: tuple[Tensor, ...], seen: tuple[Tensor, ...] | None = None) -> Tensor:
        """The training loss of a batch, a scalar.

        Args:
            images: normalised RGB [N, 3, H, W].
            targets: what the teacher makes of them; of the same pictures without defects where these show some.
            seen: what the teacher makes of `images` themselves, where that is not `targets`.
        """
        return self.compare(targets, self.imitate(images, targets if seen is None else seen))

    def prepare(self, pixels: Images, folder: Path, seed: int, device: torch.device) -> None:
        """Train what must exist before the student; nothing by default.

        Called on every start of a run, before `targets`, so it must itself take up what an earlier call left in
        `folder`. What inference needs of it belongs into parameters and buffers of `student`, for that alone is saved
        with the run, and given to other processes than the first, where this is not called.

        Args:
            pixels: good training images, uint8 [N, H, W, 3].
            folder: the run's, for what should outlive an interruption.
            seed: the run's.
            device: where to compute; the method is there already.
        """

    def finish(self, pixels: Images, device: torch.device) -> None:
        """Set constants of `student` from held-out good images, at the end of training; nothing by default.

        Called without gradients, with the best epoch's student. An interrupted call is made again, so it must not
        build on what it set.

        Args:
            pixels: held-out good images, uint8 [N, H, W, 3].
            device: where to compute; the method is there already.
        """

    @abstractmethod
    def inspect(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Anomaly maps [N, h, w], scores [N] and embeddings [N, C] from both."""

    def pairs(self, pixels: Images, device: torch.device) -> Iterator[Pair]:
        """Targets and features of uint8 [N, H, W, 3], batch by batch."""
        for images in normalised_batches(pixels, device):
            targets = self.targets(images)
            yield targets, self.imitate(images, targets)

    def forward(self, images: Tensor, inside: bool = False) -> tuple[Tensor, ...]:
        """Normalised RGB [N, 3, H, W] to anomaly maps [N, h, w], scores [N] and embeddings [N, C].

        With `inside`, targets and features follow.
        """
        targets = self.targets(images)
        features = self.imitate(images, targets)
        found = self.inspect(targets, features)
        return (*found, *targets, *features) if inside else found
