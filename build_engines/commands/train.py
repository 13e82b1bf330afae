"""`build-engines train`."""

from pathlib import Path

import torch
from pydantic import ValidationError
from rich.console import Console

from build_engines import run
from build_engines.commands.options import ArgumentError, choose
from build_engines.data.folder import find_parts
from build_engines.errors import RunError
from build_engines.methods import METHODS
from build_engines.networks.resnet import ARCHITECTURES
from build_engines.networks.weights import PROCEDURAL, PROCEDURAL_ARCHITECTURE
from build_engines.training import start_record, train

DEFAULT_TEACHER = "resnet18"


def train_run(
    *,
    data: Path,
    out: Path,
    console: Console,
    method: str = "stfpm",
    classes: list[str] | None = None,
    teacher: str | None = None,
    teacher_weights: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    image_size: int = 256,
    held_out: float = 0.2,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
) -> None:
    """Start a run, or go on with one when `resume` and the arguments are those it began with.

    None means the method's own value; of `classes`, all; of `teacher_weights`, torchvision's file.
    """
    choose("method", method, METHODS)
    architecture = teacher or (PROCEDURAL_ARCHITECTURE if teacher_weights == PROCEDURAL else DEFAULT_TEACHER)
    choose("teacher", architecture, ARCHITECTURES)
    chosen = METHODS[method]
    optimizer = chosen.optimizer
    if learning_rate is not None:
        optimizer = optimizer.model_copy(update={"learning_rate": learning_rate})
    try:
        settings = run.TrainSettings(
            method=method,
            teacher=architecture,
            epochs=epochs or chosen.epochs,
            batch_size=batch_size or chosen.batch_size,
            optimizer=run.OptimizerSettings.model_validate(optimizer.model_dump()),
            image_size=image_size,
            held_out=held_out,
            seed=seed,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ArgumentError(
            f"--{str(first['loc'][-1]).replace('_', '-')}: {first['msg']}, not {first['input']}."
        ) from error
    begun = (out / run.RECORD).exists()
    if begun and not resume:
        raise RunError(f"{out} holds a run already; say --resume to go on with it, or give another --out.")
    record = start_record(data, find_parts(data, classes), settings, teacher_weights, _device(device))
    if begun:
        record = _continued(out, record)
        if record.is_finished:
            console.print(f"The run {out} has finished its {record.settings.epochs} epochs.")
            return
    out.mkdir(parents=True, exist_ok=True)
    run.save(out, record)
    done = train(out, record, resume=begun)
    best = done.history[done.best_epoch - 1]
    console.print(
        f"Trained {len(done.split)} part classes on {sum(done.data.train.values())} images in {done.seconds:.0f} s; "
        f"epoch {done.best_epoch} is best, held-out loss {best.held_out_loss:.4f}. Run: {out}"
    )


def _continued(out: Path, asked: run.RunRecord) -> run.RunRecord:
    begun = run.load(out)
    for what, before, now in (
        ("settings", begun.settings, asked.settings),
        ("images", begun.data, asked.data),
        ("teacher weights", begun.teacher.sha256, asked.teacher.sha256),
    ):
        if before != now:
            raise RunError(f"The run {out} began with other {what}; resume it with the same, or give another --out.")
    return begun.model_copy(update={"device": asked.device, "data_folder": asked.data_folder})


def _device(asked: str) -> str:
    choose("device", asked, ("auto", "cpu", "cuda"))
    if asked == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("--device cuda: PyTorch finds no GPU here; say --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked
