"""Reverse Distillation against plain transcriptions of the paper's formulas and of transposed convolution."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from build_engines.methods.features import length_loss, smooth
from build_engines.methods.fused_map import FusedMap
from build_engines.methods.reverse_distillation import ReverseDistillation, ReverseDistillationOptions
from build_engines.networks.resnet import ARCHITECTURES, build_trunk
from build_engines.networks.reverse import ReverseStudent, UpConv

ARCHITECTURE = "resnet18_half"


def built(loss: str = "locations", chosen_map: str = "paper") -> ReverseDistillation:
    options = ReverseDistillationOptions.model_validate({"loss": loss, "map": chosen_map, "length_weight": 0})
    return ReverseDistillation.build(build_trunk(ARCHITECTURE, seed=1), ARCHITECTURE, options, 2).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_student_makes_features_of_the_encoders_shapes(architecture: str) -> None:
    trunk = build_trunk(architecture, seed=1).eval()
    student = ReverseStudent(ARCHITECTURES[architecture]).eval()
    with torch.no_grad():
        stages = trunk(torch.zeros(1, 3, 64, 64))
        made = student(stages)
    assert [tuple(features.shape) for features in made] == [tuple(features.shape) for features in stages]


def test_wide_resnet50_has_the_papers_channels() -> None:
    assert ARCHITECTURES["wide_resnet50_2"].channels == (256, 512, 1024, 2048)
    assert build_trunk("wide_resnet50_2").layer1[0].conv2.weight.shape == (128, 128, 3, 3)


def test_loss_by_location_is_the_papers(images: torch.Tensor) -> None:
    method = built()
    with torch.no_grad():
        targets = method.targets(images)
        pairs = zip(targets, method.student(targets), strict=True)
        expected = sum(1 - functional.cosine_similarity(t, s, dim=1).mean() for t, s in pairs)
        torch.testing.assert_close(method.loss(images, targets), expected, rtol=1e-5, atol=1e-6)


def test_flattened_loss_takes_one_cosine_of_a_stage(images: torch.Tensor) -> None:
    method = built("flattened")
    with torch.no_grad():
        targets = method.targets(images)
        pairs = zip(targets, method.student(targets), strict=True)
        expected = sum(1 - functional.cosine_similarity(t.flatten(1), s.flatten(1)).mean() for t, s in pairs)
        torch.testing.assert_close(method.loss(images, targets), expected, rtol=1e-5, atol=1e-6)
        assert not torch.isclose(expected, built().loss(images, targets))


def test_lengths_count_by_their_ratio() -> None:
    teacher = torch.rand(2, 4, 3, 3) + 0.5
    torch.testing.assert_close(length_loss(teacher, teacher * np.e**2), torch.tensor(4.0), rtol=1e-3, atol=1e-3)
    assert length_loss(teacher, teacher).item() == 0


def test_smoothing_is_gaussian_with_reflected_borders() -> None:
    maps = torch.rand(2, 24, 16, generator=torch.Generator().manual_seed(1))
    expected = [gaussian_filter(one.numpy(), 1.5, mode="reflect", truncate=8.0) for one in maps]
    np.testing.assert_allclose(smooth(maps, 1.5).numpy(), np.stack(expected), rtol=1e-4, atol=1e-5)


def test_map_is_the_smoothed_sum_and_score_its_maximum(images: torch.Tensor) -> None:
    method = built()
    with torch.no_grad():
        targets = method.targets(images)
        stages = [
            functional.interpolate(
                1 - functional.cosine_similarity(t, s, dim=1)[:, None], (16, 16), mode="bilinear"
            ).squeeze(1)
            for t, s in zip(targets, method.student(targets), strict=True)
        ]
        maps, scores, _ = method(images)
    expected = np.stack([gaussian_filter(one.numpy(), 1.0, mode="reflect", truncate=8.0) for one in sum(stages)])
    np.testing.assert_allclose(maps.numpy(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scores, maps.amax((1, 2)))


def test_fused_map_is_relative_to_held_out_good_images() -> None:
    method = built(chosen_map="fused")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    with torch.no_grad():
        method.finish(pixels, torch.device("cpu"))
        fused = method.student.map
        measures = [fused._measures(targets, found) for targets, found in method.pairs(pixels, torch.device("cpu"))]
        largest = [torch.cat([one.amax((1, 2)) for one in measure]).mean() for measure in zip(*measures, strict=True)]
    torch.testing.assert_close(fused.scales, torch.stack(largest))


def test_missed_energy_is_that_of_averaged_features() -> None:
    fused = FusedMap(stages=1)
    teacher, student = torch.rand(1, 4, 6, 6), torch.rand(1, 4, 6, 6)
    _, energy = fused._measures((teacher,), (student,))
    scaled = functional.normalize(student) * teacher.norm(dim=1, keepdim=True)
    t, s = (functional.avg_pool2d(one, 3, 1, 1) for one in (teacher, scaled))
    expected = t.square().sum(1) * (1 - functional.cosine_similarity(t, s, dim=1))
    torch.testing.assert_close(energy, expected, rtol=1e-4, atol=1e-5)


def test_the_fused_map_ignores_what_a_student_that_repeats_its_teacher_shows() -> None:
    stages = tuple(torch.rand(1, 4, size, size) + 0.1 for size in (16, 8, 4))
    torch.testing.assert_close(FusedMap()(stages, stages), torch.zeros(1, 16, 16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("activate", [True, False])
def test_inference_form_of_the_transposed_convolution_gives_its_numbers(activate: bool) -> None:
    torch.manual_seed(3)
    layer = UpConv(6, 5, activate)
    nn.init.uniform_(layer.bn.weight, 0.5, 2.0)
    nn.init.uniform_(layer.bn.bias)
    layer.bn.running_mean.uniform_(-1, 1)
    layer.bn.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 6, 4, 7)
    layer.eval()
    with torch.no_grad():
        expected = layer.bn(layer.conv(x))
        torch.testing.assert_close(layer(x), expected.relu() if activate else expected, rtol=1e-5, atol=1e-5)


def test_encoders_batch_statistics_stay_frozen(images: torch.Tensor) -> None:
    method = built().train()
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    method.loss(images, method.targets(images)).backward()
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())
    assert all(parameter.grad is not None for parameter in method.student.parameters())
