"""Uninformed Students (Bergmann et al. 2020, arXiv 1911.02357)."""

from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from build_engines.methods.base import Method, OptimizerSettings, Options
from build_engines.methods.patch_teacher import distil
from build_engines.networks.normalize import Images, normalised_batches
from build_engines.networks.patch_cnn import DESCRIPTOR, PatchNetwork
from build_engines.networks.resnet import ResNetTrunk
from build_engines.networks.seeding import seeded

ReceptiveField = Literal[17, 33, 65]
Map = Literal["relative", "paper"]
_STUDENTS = 3
# Of the squared length that a descriptor has on average: what keeps a nearly empty patch from standing out.
_FLOOR = 0.1
_NEIGHBOURHOOD = 28  # pixels


class UninformedStudentsOptions(Options):
    """Attributes:
    receptive_fields: sides of the described patches in pixels; the maps of several are averaged.
    dense_stride: pixels between patches.
    teacher_steps: batches that the descriptor's distillation takes.
    map: `relative` or `paper`, see `Ensemble.measures`.
    """

    receptive_fields: tuple[ReceptiveField, ...] = Field(default=(33,), min_length=1)
    dense_stride: Literal[1, 2, 4] = 4
    teacher_steps: int = Field(default=800, gt=0)
    map: Map = "relative"


class Ensemble(nn.Module):
    """The descriptor of one receptive field, the students that regress it, and the constants that normalise both.

    Attributes:
        mean, deviation: of the teacher's descriptors over the training images, [1, 128, 1, 1].
        scales: mean and deviation of each of the map's measures on held-out good images, [measures, 2].
    """

    def __init__(self, receptive_field: int, options: UninformedStudentsOptions) -> None:
        super().__init__()
        dense_stride = options.dense_stride
        self.relative, self.neighbourhood = options.map == "relative", _NEIGHBOURHOOD // dense_stride | 1
        self.teacher = PatchNetwork(receptive_field, dense_stride).requires_grad_(False)
        self.students = nn.ModuleList(PatchNetwork(receptive_field, dense_stride) for _ in range(_STUDENTS))
        self.register_buffer("mean", torch.zeros(1, DESCRIPTOR, 1, 1))
        self.register_buffer("deviation", torch.ones(1, DESCRIPTOR, 1, 1))
        self.register_buffer("scales", torch.tensor([[0.0, 1.0]] * (1 if self.relative else 2)))

    def forward(self, images: Tensor, of: Literal["teacher", "students"]) -> tuple[Tensor, ...]:
        """The teacher's normalised descriptors, or each student's, [N, 128, h, w]."""
        if of == "teacher":
            return ((self.teacher(images) - self.mean) / self.deviation,)
        return tuple(student(images) for student in self.students)

    @torch.no_grad()
    def learn_range(self, pixels: Images, device: torch.device) -> None:
        """Set mean and deviation of the teacher's descriptors from the training images."""
        count, total, squares = 0, 0.0, 0.0
        for images in normalised_batches(pixels, device):
            found = self.teacher(images).double()
            count += found.shape[0] * found.shape[2] * found.shape[3]
            total, squares = total + found.sum((0, 2, 3)), squares + found.square().sum((0, 2, 3))
        mean = total / count
        self.mean.copy_(mean.view(1, -1, 1, 1))
        self.deviation.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt().view(1, -1, 1, 1))

    def anomalies(self, target: Tensor, students: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Regression error and predictive variance at each location, [N, h, w] twice (equations 6 and 8)."""
        mean = torch.stack(students).mean(0)
        error = (mean - target).square().sum(1)
        variance = torch.stack([(student - mean).square().sum(1) for student in students]).mean(0)
        return error, variance

    def measures(self, target: Tensor, students: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the map adds up, each [N, h, w].

        The paper's are error and variance. A descriptor of strong structure is long and its error large, on good parts
        too; defects of plain surfaces drown in that. The relative map has one measure: error and variance, which
        together are the students' mean squared error, over the descriptor's squared length, averaged over a
        neighbourhood.
        """
        error, variance = self.anomalies(target, students)
        if not self.relative:
            return error, variance
        ratio = (error + variance) / (target.square().sum(1) + _FLOOR * DESCRIPTOR)
        averaged = functional.avg_pool2d(ratio.unsqueeze(1), self.neighbourhood, 1, self.neighbourhood // 2)
        return (averaged.squeeze(1),)

    def normalised(self, target: Tensor, students: tuple[Tensor, ...]) -> Tensor:
        """The sum of the measures, each relative to good images (section 3.3, equation 9), [N, h, w]."""
        found = self.measures(target, students)
        return torch.stack([(one - self.scales[i, 0]) / self.scales[i, 1] for i, one in enumerate(found)]).sum(0)


class UninformedStudents(Method):
    """A patch descriptor distilled from the trunk, and three students that know it on good images alone.

    `student` holds descriptor and students: the trunk teaches the descriptor and is not needed afterwards.
    """

    name = "us"
    optimizer: ClassVar[OptimizerSettings] = OptimizerSettings(
        name="adam", learning_rate=5e-4, momentum=0.9, weight_decay=1e-5
    )
    batch_size = 4
    epochs = 8
    options = UninformedStudentsOptions

    def __init__(self, teacher: nn.Module, student: nn.ModuleList, options: UninformedStudentsOptions) -> None:
        super().__init__(teacher, student)
        self.steps = options.teacher_steps

    @classmethod
    def build(
        cls, teacher: ResNetTrunk, architecture: str, options: UninformedStudentsOptions, seed: int
    ) -> "UninformedStudents":
        """Descriptors and students with random weights; `prepare` trains the descriptors."""
        with seeded(seed):
            fields = sorted(set(options.receptive_fields))
            return cls(teacher, nn.ModuleList(Ensemble(field, options) for field in fields), options)

    def prepare(self, pixels: Images, folder: Path, seed: int, device: torch.device) -> None:
        """Distil the trunk into the descriptors, and learn the mean and deviation of what they give."""
        for ensemble in self.student:
            distil(self.teacher, ensemble.teacher, pixels, self.steps, folder, seed, device)
            ensemble.learn_range(pixels, device)

    def finish(self, pixels: Images, device: torch.device) -> None:
        """Mean and deviation of the map's measures over held-out good images."""
        for ensemble in self.student:
            found = []
            for images in normalised_batches(pixels, device):
                (target,), students = ensemble(images, "teacher"), ensemble(images, "students")
                found.append(torch.stack(ensemble.measures(target, students)).flatten(1))
            measures = torch.cat(found, 1)
            ensemble.scales.copy_(torch.stack([measures.mean(1), measures.std(1)], 1))

    def targets(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised descriptors of each receptive field, [N, 128, h, w]."""
        return tuple(descriptors for ensemble in self.student for descriptors in ensemble(images, "teacher"))

    def imitate(self, images: Tensor, targets: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What each student takes for the descriptors: the students of the first receptive field, then the next."""
        return tuple(descriptors for ensemble in self.student for descriptors in ensemble(images, "students"))

    def compare(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> Tensor:
        """Sum over students of the mean over locations of ||s - t||^2 (equation 5)."""
        errors = [
            (found.float() - target.float()).square().sum(1).mean()
            for target, students in zip(targets, _by_ensemble(features), strict=True)
            for found in students
        ]
        return torch.stack(errors).sum()

    def inspect(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean over receptive fields of the normalised error and variance; the score is its maximum."""
        ensembles = zip(self.student, targets, _by_ensemble(features), strict=True)
        anomaly_map = torch.stack([one.normalised(target, students) for one, target, students in ensembles]).mean(0)
        embedding = torch.cat([target.mean((2, 3)) for target in targets], 1)
        return anomaly_map, anomaly_map.amax((1, 2)), embedding


def _by_ensemble(features: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    return [features[start : start + _STUDENTS] for start in range(0, len(features), _STUDENTS)]
