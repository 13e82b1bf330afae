"""Several processes with gloo train what one does."""

import subprocess
import sys
from pathlib import Path

import pytest
from lightning_fabric import Fabric
from rich.console import Console
from safetensors.torch import load_file

from build_engines import run
from build_engines.errors import DataError, RunError
from build_engines.methods import METHODS
from build_engines.processes import from_first, gathered, launch, together
from tests.build_engines.probe import Probe, train_all
from tests.conftest import train_small

# 48 training images make six batches of 7, which two processes cannot halve.
TINY = {"image_size": 64, "epochs": 2, "batch_size": 7, "mixed_precision": False, "learning_rate": 0.01}
ASKED: dict[str, dict[str, object]] = {
    Probe.name: {},
    "stfpm": {},
    "dcam": {"corruption": 0.5},
    "rd": {"corruption": 0.5, "learning_rate": 1e-4},
    "us": {"learning_rate": 1e-4, "options": {"teacher_steps": 4, "receptive_fields": [17]}},
}


def test_two_processes_train_the_same_student(
    parts_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the method."""
    monkeypatch.setitem(METHODS, Probe.name, Probe)
    begun = {}
    for method, asked in ASKED.items():
        train_small(parts_folder, tmp_path / method, console, method=method, **{**TINY, **asked})
        folder = tmp_path / f"{method}-2"
        folder.mkdir()
        begun[folder] = run.load(tmp_path / method).model_copy(update={"history": [], "is_finished": False})
    launch(train_all, "cpu", 2, begun)
    for method in ASKED:
        one, two = tmp_path / method, tmp_path / f"{method}-2"
        # Rounding alone, which many steps make larger: a student that begins 1e-7 off ends as far away.
        tolerance = 1e-5 if method == Probe.name else 5e-3
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


def test_what_one_process_cannot_do_ends_all(tmp_path: Path) -> None:
    """With its sentence, and before any of them goes on."""
    with pytest.raises(DataError, match="gone from the second"):
        launch(fail_in_the_second, "cpu", 2, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"first was told", "second was told"}


def fail_in_the_second(fabric: Fabric, folder: Path) -> None:
    assert from_first(fabric, lambda: f"from {fabric.global_rank}") == "from 0"
    with pytest.raises(RunError, match="the first cannot"):
        from_first(fabric, _refuse)
    assert together(fabric, lambda: fabric.global_rank) == fabric.global_rank

    def read() -> None:
        if fabric.global_rank == 1:
            raise DataError("gone from the second")

    try:
        together(fabric, read)
    except DataError:
        (folder / ("second was told", "first was told")[fabric.is_global_zero]).touch()
        # The first that ends has the other ended.
        gathered(fabric, None)
        raise
    (folder / f"{fabric.global_rank} went on").touch()


def _refuse() -> None:
    raise RunError("the first cannot")
