"""What training, export and benchmarks need of a distillation method."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from build_engines.networks.resnet import ResNetTrunk


class OptimizerSettings(BaseModel):
    """Optimiser of a method's paper, at a constant learning rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)


class Method(nn.Module, ABC):
    """A frozen teacher, a student trained on good images, and the anomaly map that compares them.

    `student` holds all that is trained. The teacher's features are constants of an image, so that training can
    compute them once: `targets` gives them, `loss` takes them.
    """

    name: ClassVar[str]
    optimizer: ClassVar[OptimizerSettings]
    batch_size: ClassVar[int]
    epochs: ClassVar[int]

    def __init__(self, teacher: ResNetTrunk, student: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = student

    def train(self, mode: bool = True) -> "Method":
        """Batch statistics of the frozen teacher stay as they are."""
        super().train(mode)
        self.teacher.eval()
        return self

    @abstractmethod
    def targets(self, images: Tensor) -> tuple[Tensor, ...]:
        """The teacher's part of the loss for normalised RGB [N, 3, H, W]: tensors [N, ...]."""

    @abstractmethod
    def loss(self, images: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
        """The training loss of a batch, a scalar."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised RGB [N, 3, H, W] to anomaly maps [N, h, w], scores [N] and embeddings [N, C]."""
