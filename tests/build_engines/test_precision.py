"""Mixed precision in training: which type, and fp16's scaled gradients."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from build_engines import precision, run
from build_engines.methods import METHODS
from tests.build_engines.probe import Probe
from tests.conftest import train_small

CPU = torch.device("cpu")


def test_nothing_is_done_where_it_is_not_allowed() -> None:
    with precision.mixed_precision(CPU, allowed=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert not precision.gradient_scaler(CPU, allowed=False).is_enabled()


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_computes_in_bf16_or_not_at_all(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    for present in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=present: {capability: found})
        assert precision.half_type(CPU) is (torch.bfloat16 if present else None)
    assert not precision.gradient_scaler(CPU).is_enabled()


def test_fp16_scales_the_gradients_and_keeps_the_scale_in_the_checkpoint(
    parts_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU without bf16; the CPU computes fp16 as well, slowly."""
    monkeypatch.setattr(precision, "half_type", lambda device: torch.float16)
    monkeypatch.setitem(METHODS, Probe.name, Probe)
    asked = {"method": Probe.name, "image_size": 64, "epochs": 3, "learning_rate": 0.01}
    train_small(parts_folder, tmp_path / "half", console, **asked)
    train_small(parts_folder, tmp_path / "full", console, mixed_precision=False, **asked)
    half, full = (run.load_finished(tmp_path / name).history[-1].held_out_loss for name in ("half", "full"))
    assert half != full
    assert half == pytest.approx(full, rel=0.05)
    checkpoint = torch.load(tmp_path / "half" / run.CHECKPOINT, weights_only=True)
    assert checkpoint["scaler"]["scale"] > 1
