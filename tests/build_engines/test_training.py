"""Training: repeatable, resumable, and fair between unified and one-class runs."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from build_engines import run
from build_engines.data.folder import find_parts
from build_engines.errors import RunError
from build_engines.training import split_parts
from tests.conftest import EPOCHS, train_small


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


def test_an_interrupted_run_resumes_to_the_same_student(
    parts_folder: Path, run_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its fourth epoch, as Ctrl-C does, and gone on with."""
    from build_engines.training import _Trainer

    epoch = _Trainer._epoch

    def stop_at_third(self: _Trainer, number: int, *rest: object) -> None:
        if number == 3:
            raise KeyboardInterrupt
        epoch(self, number, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_Trainer, "_epoch", stop_at_third)
        train_small(parts_folder, tmp_path / "run", console)
    assert len(run.load(tmp_path / "run").history) == 3
    with pytest.raises(RunError, match="3 of 20 epochs"):
        run.load_finished(tmp_path / "run")
    train_small(parts_folder, tmp_path / "run", console, resume=True)
    resumed, straight = load_file(tmp_path / "run" / run.STUDENT), load_file(run_folder / run.STUDENT)
    assert all((resumed[name] - value).abs().max() <= 1e-4 * value.abs().max() for name, value in straight.items())


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
