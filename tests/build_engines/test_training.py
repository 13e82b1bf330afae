"""Training: repeatable, resumable in every stage, and fair between unified and one-class runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from build_engines import run
from build_engines.data.folder import find_parts
from build_engines.errors import RunError
from build_engines.methods import METHODS
from build_engines.targets import TargetStore
from build_engines.trainer import Trainer
from build_engines.training import split_parts
from tests.build_engines.probe import Probe, Reader
from tests.conftest import EPOCHS, train_small

TINY = {"image_size": 64, "epochs": 4}


def test_a_run_records_what_it_did(run_folder: Path) -> None:
    record = run.load_finished(run_folder)
    assert len(record.history) == EPOCHS
    losses = [epoch.held_out_loss for epoch in record.history]
    assert record.best_epoch == losses.index(min(losses)) + 1
    assert record.history[-1].train_loss < record.history[0].train_loss
    assert (run_folder / run.CURVE).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in run_folder.iterdir()) == sorted(
        [run.RECORD, run.STUDENT, run.CHECKPOINT, run.CURVE]
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"schedule": "onecycle", "augmentation": True, "corruption": 0.5},
        {"method": "rd", "schedule": "cosine", "warmup": 0.2, "corruption": 0.5, "learning_rate": 0.005},
    ],
    ids=["augmented", "adam"],
)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    parts_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object]
) -> None:
    """Stopped in its third epoch, as Ctrl-C does, and gone on with."""
    epoch = Trainer._epoch

    def stop_after_two(self: Trainer, *rest: object) -> None:
        if len(self._record.history) == 2:
            raise KeyboardInterrupt
        epoch(self, *rest)

    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train_small(parts_folder, straight, console, **TINY, **asked)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_epoch", stop_after_two)
        train_small(parts_folder, resumed, console, **TINY, **asked)
    assert len(run.load(resumed).history) == 2
    with pytest.raises(RunError, match="2 of 4 epochs"):
        run.load_finished(resumed)
    train_small(parts_folder, resumed, console, resume=True, **TINY, **asked)
    assert (resumed / run.STUDENT).read_bytes() == (straight / run.STUDENT).read_bytes()
    losses = [[epoch.train_loss for epoch in run.load(folder).history] for folder in (straight, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_student_of_features_is_given_those_of_defects(
    parts_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """And has to answer with those of the clean images. The teacher sees anew what is not clean, and nothing else."""
    monkeypatch.setitem(METHODS, Reader.name, Reader)
    for name in ("from_shown", "from_clean"):
        monkeypatch.setattr(Reader, name, [])
    compute, seen = TargetStore.compute, []

    def counted(self: TargetStore, pixels: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        seen.append(len(pixels))
        return compute(self, pixels)

    monkeypatch.setattr(TargetStore, "compute", counted)
    asked = {**TINY, "method": Reader.name, "epochs": 1, "corruption": share, "mixed_precision": False}
    train_small(parts_folder, tmp_path / "run", console, **asked)
    assert len(Reader.from_shown) == len(Reader.from_clean) == 6
    # Those of clean images are kept in 16 bits.
    assert max(Reader.from_shown) < 3e-3
    assert min(Reader.from_clean) > 0.1
    in_batches = sum(seen[-6:])
    assert in_batches == 48 if share == 1.0 else 8 < in_batches < 32


def test_training_stops_where_the_held_out_loss_no_longer_falls(
    parts_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a rate that is far too high."""
    asked = {**TINY, "learning_rate": 50.0, "epochs": 40, "patience": 2}
    train_small(parts_folder, tmp_path / "run", Console(quiet=True), **asked)
    record = run.load_finished(tmp_path / "run")
    assert record.stopped_early
    assert len(record.history) == record.best_epoch + 2 < 40
    train_small(parts_folder, tmp_path / "run", Console(width=200), resume=True, **asked)
    assert f"is finished: {len(record.history)} of 40 epochs, stopped early" in capsys.readouterr().out
    assert run.load(tmp_path / "run") == record


def test_a_method_is_prepared_before_training_and_finished_after_it(
    parts_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in either stage, the next call goes on."""
    folder, asked = tmp_path / "run", {**TINY, "method": Probe.name}
    monkeypatch.setitem(METHODS, Probe.name, Probe)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Probe, "interrupted_in", "prepare")
        train_small(parts_folder, folder, console, **asked)
    assert run.load(folder).history == []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Probe, "interrupted_in", "finish")
        train_small(parts_folder, folder, console, resume=True, **asked)
    assert run.load(folder).is_trained
    with pytest.raises(RunError, match="4 of 4 epochs"):
        run.load_finished(folder)
    train_small(parts_folder, folder, console, resume=True, **asked)
    record = run.load_finished(folder)
    # Prepared by the first call alone, with the training images; finished with the held-out ones.
    assert (folder / Probe.PREPARED).read_text() == str(sum(record.data.train.values()))
    assert load_file(folder / run.STUDENT)["held_out"].item() == sum(record.data.held_out.values())


def test_a_checkpoint_of_another_version_is_refused(
    parts_folder: Path, run_folder: Path, tmp_path: Path, console: Console
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    run.save(folder, run.load(folder).model_copy(update={"is_finished": False}))
    torch.save({"student": {}, "optimizer": {}}, folder / run.CHECKPOINT)
    with pytest.raises(RunError, match="is of another version"):
        train_small(parts_folder, folder, console, resume=True)


def test_a_finished_run_is_not_overwritten(parts_folder: Path, run_folder: Path, console: Console) -> None:
    with pytest.raises(RunError, match="holds a run already"):
        train_small(parts_folder, run_folder, console)


@pytest.mark.parametrize("change", [{"epochs": EPOCHS + 1}, {"seed": 1}])
def test_resume_with_other_settings_is_refused(
    parts_folder: Path, run_folder: Path, console: Console, change: dict[str, int]
) -> None:
    with pytest.raises(RunError, match="began with other"):
        train_small(parts_folder, run_folder, console, resume=True, **change)


def test_resume_with_other_images_is_refused(
    parts_folder: Path, run_folder: Path, tmp_path: Path, console: Console
) -> None:
    data = Path(shutil.copytree(parts_folder, tmp_path / "parts"))
    first, second, *_ = sorted(data.glob("*/train/good/*.png"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(RunError, match="began with other images"):
        train_small(data, run_folder, console, resume=True)


def test_a_class_is_split_alike_in_unified_and_one_class_runs(parts_folder: Path) -> None:
    unified = split_parts(parts_folder, find_parts(parts_folder), 0.2, seed=4)
    for part in unified:
        alone = split_parts(parts_folder, find_parts(parts_folder, [part.name]), 0.2, seed=4)
        assert alone == [part]
        assert len(part.held_out) == 6
        assert not set(part.held_out) & set(part.train)
