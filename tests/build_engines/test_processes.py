"""Several processes with gloo train what one does."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from build_engines import run
from build_engines.methods import METHODS
from build_engines.processes import launch
from tests.build_engines.probe import Probe, train_all
from tests.conftest import train_small

# 48 training images make six batches of 7, which two processes cannot halve.
TINY = {"image_size": 64, "epochs": 2, "batch_size": 7, "mixed_precision": False}


def test_two_processes_train_the_same_student(
    parts_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly without batch normalisation; with it nearly, for it sees half batches."""
    monkeypatch.setitem(METHODS, Probe.name, Probe)
    begun = {}
    for method in (Probe.name, "stfpm"):
        train_small(parts_folder, tmp_path / method, console, method=method, learning_rate=0.01, **TINY)
        folder = tmp_path / f"{method}-2"
        folder.mkdir()
        begun[folder] = run.load(tmp_path / method).model_copy(update={"history": [], "is_finished": False})
    launch(train_all, "cpu", 2, begun)
    for method, tolerance in ((Probe.name, 1e-5), ("stfpm", 0.02)):
        one, two = tmp_path / method, tmp_path / f"{method}-2"
        for ours, theirs in zip(run.load_finished(two).history, run.load(one).history, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=tolerance)
            assert ours.held_out_loss == pytest.approx(theirs.held_out_loss, rel=tolerance)
        assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    weights = [load_file(tmp_path / name / run.STUDENT)["weight"] for name in (Probe.name, f"{Probe.name}-2")]
    assert (weights[0] - weights[1]).abs().max() < 1e-5


def test_an_error_in_new_processes_is_one_sentence(parts_folder: Path, tmp_path: Path) -> None:
    options = ["--teacher-weights", "procedural", "--image-size", 64, "--devices", 2, "--device", "cpu", "--lr", 1e30]
    command = ["train", "--data", parts_folder, "--out", tmp_path / "run", "--epochs", 2, *options]
    done = subprocess.run(
        [sys.executable, "-m", "build_engines.cli", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "The loss is no number after epoch 1; train again with a smaller --lr.\n"
    assert run.load(tmp_path / "run").devices == 2
