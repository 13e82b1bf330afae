"""STFPM against a plain transcription of the paper's formulas."""

import pytest
import torch
from torch.nn import functional

from build_engines.methods.base import Options
from build_engines.methods.stfpm import Stfpm
from build_engines.networks.inspection import InspectionNetwork
from build_engines.networks.resnet import build_trunk


@pytest.fixture(scope="module")
def method() -> Stfpm:
    return Stfpm.build(build_trunk("resnet18_half", seed=1), "resnet18_half", Options(), 2).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def stage_maps(method: Stfpm, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        pairs = zip(method.teacher(images), method.student(images), strict=True)
        return [
            0.5 * (functional.normalize(t) - functional.normalize(s)).square().sum(1, keepdim=True) for t, s in pairs
        ]


def test_loss_is_the_papers(method: Stfpm, images: torch.Tensor) -> None:
    expected = sum(stage.mean() for stage in stage_maps(method, images))
    torch.testing.assert_close(method.loss(images, method.targets(images)), expected, rtol=1e-5, atol=1e-6)


def test_map_is_the_product_of_upsampled_stages_and_score_its_maximum(method: Stfpm, images: torch.Tensor) -> None:
    stages = [functional.interpolate(m, (16, 16), mode="bilinear") for m in stage_maps(method, images)]
    expected = (stages[0] * stages[1] * stages[2]).squeeze(1)
    with torch.no_grad():
        maps, scores, embeddings = method(images)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores, expected.amax((1, 2)), rtol=1e-4, atol=1e-6)
    assert embeddings.shape == (2, 32 + 64 + 128)


def test_a_student_equal_to_its_teacher_sees_no_anomaly(images: torch.Tensor) -> None:
    method = Stfpm.build(build_trunk("resnet18_half", seed=1), "resnet18_half", Options(), 1).eval()
    maps, _, _ = method(images)
    assert float(maps.abs().max()) < 1e-6


def test_teacher_stays_frozen_while_the_student_trains(images: torch.Tensor) -> None:
    method = Stfpm.build(build_trunk("resnet18_half", seed=1), "resnet18_half", Options(), 2).train()
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    method.loss(images, method.targets(images)).backward()
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(parameter.grad is not None for parameter in method.student.parameters())


def test_normalisation_is_imagenets(method: Stfpm) -> None:
    pixels = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(InspectionNetwork(method).normalize(pixels), expected, rtol=1e-5, atol=1e-5)
