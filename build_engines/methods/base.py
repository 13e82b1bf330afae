"""What training, export and benchmarks need of a distillation method."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from build_engines.networks.resnet import ResNetTrunk


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
    """

    name: ClassVar[str]
    optimizer: ClassVar[OptimizerSettings]
    batch_size: ClassVar[int]
    epochs: ClassVar[int]
    options: ClassVar[type[Options]] = Options

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
        """The teacher's part of the loss for normalised RGB [N, 3, H, W]: tensors [N, ...]."""

    @abstractmethod
    def loss(self, images: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
        """The training loss of a batch, a scalar."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised RGB [N, 3, H, W] to anomaly maps [N, h, w], scores [N] and embeddings [N, C]."""
