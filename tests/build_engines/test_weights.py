"""Teacher weights load by torchvision's names, and other files are refused with one sentence."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from build_engines.errors import WeightsError
from build_engines.networks.resnet import build_trunk
from build_engines.networks.weights import PROCEDURAL_FILE, load_teacher


def test_real_resnet18_loads_as_it_is(shared: Path) -> None:
    path = shared / "weights" / "resnet18_imagenet_layer123.pth"
    trunk, record = load_teacher("resnet18", str(path))
    stored = torch.load(path, weights_only=True)
    assert torch.equal(trunk.layer3[1].conv2.weight, stored["layer3.1.conv2.weight"])
    assert record.weights == path.name


def test_both_file_formats_give_the_same_trunk(tmp_path: Path) -> None:
    state = build_trunk("resnet18_half", seed=5).state_dict()
    torch.save({**state, "fc.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    first, _ = load_teacher("resnet18_half", str(tmp_path / "a.pth"))
    second, _ = load_teacher("resnet18_half", str(tmp_path / "a.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_procedural_teacher_is_shipped_and_small() -> None:
    assert PROCEDURAL_FILE.stat().st_size <= 3_000_000
    trunk, record = load_teacher("resnet18_half", "procedural")
    assert record.weights == "procedural"
    assert all(torch.isfinite(value).all() for value in trunk.state_dict().values())


def test_other_architecture_lists_the_first_missing_names(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"is no resnet18: it lacks bn1.weight, bn1.bias, .* in all"):
        load_teacher("resnet18", str(tmp_path / "a.pth"))


def test_other_width_is_refused(tmp_path: Path) -> None:
    torch.save(build_trunk("resnet18_half").state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"conv1.weight has shape \(32, 3, 7, 7\)"):
        load_teacher("resnet18", str(tmp_path / "a.pth"))


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    torch.save({"conv1.weight": Evil()}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(WeightsError):
            load_teacher("resnet18", str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_file_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="a torchvision state dict"):
        load_teacher("resnet18", str(path))


def test_missing_file_is_refused() -> None:
    with pytest.raises(WeightsError, match="There is no teacher weights file"):
        load_teacher("resnet18", "/nowhere/a.pth")


def test_procedural_with_another_architecture_is_refused() -> None:
    with pytest.raises(WeightsError, match="resnet18_half, not a resnet18"):
        load_teacher("resnet18", "procedural")
