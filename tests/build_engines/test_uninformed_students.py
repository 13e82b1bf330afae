"""Uninformed Students: the dense graph gives the patches' own descriptors, and the map is the paper's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from build_engines.methods import patch_teacher
from build_engines.methods.uninformed_students import UninformedStudents, UninformedStudentsOptions
from build_engines.networks.normalize import Normalize
from build_engines.networks.patch_cnn import DESCRIPTOR, LAYERS, PatchNetwork
from build_engines.networks.resnet import build_trunk

ARCHITECTURE = "resnet18_half"
CPU = torch.device("cpu")


def built(**options: object) -> UninformedStudents:
    chosen = UninformedStudentsOptions.model_validate(options)
    return UninformedStudents.build(build_trunk(ARCHITECTURE, seed=1), ARCHITECTURE, chosen, 2).eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3)).astype(np.uint8)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("side", sorted(LAYERS))
def test_dense_extraction_equals_patch_by_patch(side: int, stride: int) -> None:
    torch.manual_seed(0)
    network = PatchNetwork(side, stride).double()
    image = torch.randn(1, 3, 72, 80, dtype=torch.float64)
    with torch.no_grad():
        dense = network(image)
        before = (side - stride) // 2
        padded = functional.pad(image, (before, side - stride - before, before, side - stride - before))
        patches = functional.unfold(padded, side, stride=stride).view(3, side, side, -1).permute(3, 0, 1, 2)
        chosen = torch.arange(0, len(patches), max(1, len(patches) // 40))
        expected = network.patches(patches[chosen])
    assert dense.shape == (1, DESCRIPTOR, 72 // stride, 80 // stride)
    torch.testing.assert_close(dense.flatten(2)[0].T[chosen], expected, rtol=1e-9, atol=1e-9)


def test_error_and_variance_are_the_papers() -> None:
    method = built()
    target, students = torch.randn(2, 128, 3, 4), tuple(torch.randn(2, 128, 3, 4) for _ in range(3))
    error, variance = method.student[0].anomalies(target, students)
    mean = sum(students) / 3
    torch.testing.assert_close(error, (mean - target).norm(dim=1) ** 2, rtol=1e-4, atol=1e-4)
    spread = sum(student.norm(dim=1) ** 2 for student in students) / 3 - mean.norm(dim=1) ** 2
    torch.testing.assert_close(variance, spread, rtol=1e-3, atol=1e-3)


def test_relative_map_takes_the_students_error_over_the_descriptors_length() -> None:
    (ensemble,) = built().student
    target, students = torch.randn(2, 128, 9, 9), tuple(torch.randn(2, 128, 9, 9) for _ in range(3))
    (measure,) = ensemble.measures(target, students)
    errors = sum((student - target).norm(dim=1) ** 2 for student in students) / 3
    ratio = errors / (target.norm(dim=1) ** 2 + 12.8)
    torch.testing.assert_close(measure[:, 4, 4], ratio[:, 1:8, 1:8].mean((1, 2)))
    # A hundred times as strong an image is as anomalous.
    (strong,) = ensemble.measures(100 * target, tuple(100 * student for student in students))
    torch.testing.assert_close(strong, measure, rtol=0.2, atol=0)


@pytest.mark.parametrize("shown", ["relative", "paper"])
def test_held_out_good_images_have_a_normalised_map(shown: str, pixels: np.ndarray) -> None:
    method = built(receptive_fields=(17, 33), map=shown)
    method.finish(pixels, CPU)
    images = normalised(pixels)
    with torch.no_grad():
        targets = method.targets(images)
        features = method.imitate(images, targets)
        for index, ensemble in enumerate(method.student):
            found = ensemble.normalised(targets[index], features[3 * index : 3 * index + 3])
            assert abs(float(found.mean())) < 1e-2
        maps, scores, embeddings = method(images)
    assert maps.shape == (6, 24, 24)
    torch.testing.assert_close(scores, maps.amax((1, 2)))
    assert embeddings.shape == (6, 2 * DESCRIPTOR)


def test_descriptors_are_normalised_over_the_training_images(pixels: np.ndarray, tmp_path: Path) -> None:
    method = built(receptive_fields=(17,), teacher_steps=3)
    method.prepare(pixels, tmp_path, seed=0, device=CPU)
    with torch.no_grad():
        (targets,) = method.targets(normalised(pixels))
    torch.testing.assert_close(targets.mean((0, 2, 3)), torch.zeros(DESCRIPTOR), rtol=0, atol=1e-3)
    torch.testing.assert_close(targets.std((0, 2, 3)), torch.ones(DESCRIPTOR), rtol=0, atol=1e-2)


def test_distillation_brings_descriptors_closer_and_is_not_done_twice(
    pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = build_trunk(ARCHITECTURE, seed=1).eval()
    first, second = PatchNetwork(17, 4), PatchNetwork(17, 4)
    patch_teacher.distil(trunk, first, pixels, 4, tmp_path, 0, CPU)
    monkeypatch.setattr(patch_teacher, "_train", lambda *_: pytest.fail("distilled again"))
    patch_teacher.distil(trunk, second, pixels, 4, tmp_path, 0, CPU)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_an_interrupted_distillation_goes_on_as_if_it_had_not_been(
    pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = build_trunk(ARCHITECTURE, seed=1).eval()
    monkeypatch.setattr(patch_teacher, "_SAVED_EVERY", 2)
    whole, cut = seeded_network(), seeded_network()
    patch_teacher.distil(trunk, whole, pixels, 6, folder(tmp_path, "whole"), 0, CPU)
    batch = patch_teacher._Crops.batch
    asked = []

    def interrupted(self: object, step: int) -> np.ndarray:
        asked.append(step)
        if asked.count(4) == 1 and step == 4:
            raise KeyboardInterrupt
        return batch(self, step)

    monkeypatch.setattr(patch_teacher._Crops, "batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        patch_teacher.distil(trunk, cut, pixels, 6, folder(tmp_path, "cut"), 0, CPU)
    patch_teacher.distil(trunk, seeded_network(), pixels, 6, tmp_path / "cut", 0, CPU)
    names = ("whole", "cut")
    one, other = (((tmp_path / name) / "descriptor17.safetensors").read_bytes() for name in names)
    assert one == other
    assert asked.count(1) == 1


def test_the_descriptor_is_frozen_while_students_train(pixels: np.ndarray) -> None:
    method = built(receptive_fields=(17,)).train()
    images = normalised(pixels)
    method.loss(images, method.targets(images)).backward()
    assert all(parameter.grad is None for parameter in method.student[0].teacher.parameters())
    assert all(parameter.grad is not None for parameter in method.student[0].students.parameters())


def normalised(pixels: np.ndarray) -> Tensor:
    return Normalize()(torch.from_numpy(pixels))


def seeded_network() -> PatchNetwork:
    torch.manual_seed(5)
    return PatchNetwork(17, 4)


def folder(root: Path, name: str) -> Path:
    made = root / name
    made.mkdir()
    return made
