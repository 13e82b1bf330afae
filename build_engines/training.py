"""Training: the student learns the teacher's features of good images of all part classes, shuffled together."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric, seed_everything
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from build_engines import run
from build_engines.data.folder import PartFolder, fingerprint, read_images
from build_engines.errors import RunError
from build_engines.libraries import versions
from build_engines.methods import build_method
from build_engines.methods.base import Method
from build_engines.networks.inspection import Normalize
from build_engines.networks.weights import load_teacher
from build_engines.plots import plot_curve
from build_engines.precision import mixed_precision
from build_engines.targets import TargetStore
from engines.bundle import DataFingerprint
from engines.files import replace_synced, write_atomic


@dataclass(frozen=True)
class GoodImages:
    """Good images of all classes at the model's size, uint8 [N, H, W, 3], and which of them are held out, bool [N]."""

    pixels: NDArray[np.uint8]
    held_out: NDArray[np.bool_]


def split_parts(root: Path, parts: list[PartFolder], share: float, seed: int) -> list[run.ClassSplit]:
    """Hold out `share` of each class's good images, at least one, drawn by `seed` and the class's name alone.

    A class is split alike in a unified and in a one-class run.
    """
    splits = []
    for part in parts:
        names = [path.relative_to(root).as_posix() for path in part.train]
        order = np.random.default_rng([seed, *part.name.encode()]).permutation(len(names))
        count = max(1, round(share * len(names)))
        held_out = set(order[:count].tolist())
        splits.append(
            run.ClassSplit(
                name=part.name,
                train=[name for i, name in enumerate(names) if i not in held_out],
                held_out=[name for i, name in enumerate(names) if i in held_out],
            )
        )
    return splits


def start_record(
    root: Path, parts: list[PartFolder], settings: run.TrainSettings, teacher_weights: str | None, device: str
) -> run.RunRecord:
    """The record of a run that has not begun. Raises WeightsError where the teacher cannot be loaded."""
    split = split_parts(root, parts, settings.held_out, settings.seed)
    _, teacher = load_teacher(settings.teacher, teacher_weights)
    return run.RunRecord(
        settings=settings,
        teacher=teacher,
        teacher_weights=teacher_weights,
        data_folder=root.resolve(),
        data=DataFingerprint(
            sha256=fingerprint(root, [path for part in parts for path in part.train]),
            train={part.name: len(part.train) for part in split},
            held_out={part.name: len(part.held_out) for part in split},
        ),
        split=split,
        device=device,
        libraries=versions(),
    )


def method_of(record: run.RunRecord) -> Method:
    """Teacher and untrained student of a run.

    Raises:
        WeightsError: the teacher's file is gone.
        RunError: it is another file than the run began with.
    """
    teacher, found = load_teacher(record.settings.teacher, record.teacher_weights)
    if found.sha256 != record.teacher.sha256:
        raise RunError(f"The teacher weights {found.weights} differ from those the run began with; give the same file.")
    settings = record.settings
    return build_method(settings.method, teacher, settings.teacher, settings.options, settings.seed)


def train(folder: Path, record: run.RunRecord, resume: bool) -> run.RunRecord:
    """Train a run to its last epoch; after each, checkpoint, curve and record are on disk.

    Args:
        folder: the run's.
        record: from `start_record`, or from `run.load` when resuming.
        resume: continue from the checkpoint.

    Raises:
        DataError: images that cannot be read.
        RunError: the loss is no number.
    """
    seed_everything(record.settings.seed, verbose=False)
    # Fabric's own bf16-mixed casts what goes in and out as well, and takes twice the time on a CPU.
    fabric = Fabric(accelerator=record.device, devices=1, precision="32-true")
    fabric.launch()
    images = _read(record)
    method = method_of(record)
    store = TargetStore(folder, fabric.device, method, images.pixels)
    return _Trainer(folder, record, fabric, method, images, store).run(resume)


def _read(record: run.RunRecord) -> GoodImages:
    size = record.settings.image_size
    chosen = [
        (name, kept) for part in record.split for kept in (False, True) for name in (part.train, part.held_out)[kept]
    ]
    pixels = read_images([record.data_folder / name for name, _ in chosen], size, size, "good images")
    return GoodImages(pixels, np.array([kept for _, kept in chosen]))


class _Trainer:
    def __init__(
        self,
        folder: Path,
        record: run.RunRecord,
        fabric: Fabric,
        method: Method,
        images: GoodImages,
        store: TargetStore,
    ) -> None:
        self.folder, self.record, self.fabric, self.images, self.store = folder, record, fabric, images, store
        self.normalize = Normalize().to(fabric.device)
        self.student = method.student
        optimizer = record.settings.optimizer.build(method.student.parameters())
        self.train_index = np.flatnonzero(~images.held_out)
        self.batch_size = min(record.settings.batch_size, len(self.train_index))
        self.steps = len(self.train_index) // self.batch_size
        self.method, self.optimizer = fabric.setup(method.to(memory_format=torch.channels_last), optimizer)
        self.method.mark_forward_method("loss")

    def run(self, resume: bool) -> run.RunRecord:
        checkpoint = self.folder / run.CHECKPOINT
        if resume:
            self._restore(checkpoint)
        rate = TextColumn("{task.fields[rate]:.0f} images/s")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        with Progress(*columns) as progress:
            done = len(self.record.history)
            task = progress.add_task(
                "Training", total=self.record.settings.epochs * self.steps, completed=done * self.steps, rate=0.0
            )
            for epoch in range(done, self.record.settings.epochs):
                self._epoch(epoch, progress, task)
                scratch = checkpoint.with_suffix(".tmp")
                self.fabric.save(scratch, self._state())
                replace_synced(scratch, checkpoint)
                run.save(self.folder, self.record)
                plot_curve(self.folder / run.CURVE, self.record)
                if not progress.console.is_terminal:
                    progress.console.print(_summary(self.record), highlight=False)
        return self.record

    def _state(self) -> dict[str, Any]:
        history = [epoch.model_dump() for epoch in self.record.history]
        progress = {"history": history, "best_epoch": self.record.best_epoch, "seconds": self.record.seconds}
        return {"student": self.student, "optimizer": self.optimizer, "progress": progress}

    def _restore(self, checkpoint: Path) -> None:
        """The checkpoint alone says how far a run is: the power can fail between it and the record."""
        progress: dict[str, Any] = {"history": [], "best_epoch": 0, "seconds": 0.0}
        if checkpoint.is_file():
            state = self._state()
            self.fabric.load(checkpoint, state, weights_only=True)
            progress = state["progress"]
        self.record = run.RunRecord.model_validate({**self.record.model_dump(), **progress})

    def _epoch(self, number: int, progress: Progress, task: int) -> None:
        began = time.perf_counter()
        order = np.random.default_rng([self.record.settings.seed, number]).permutation(self.train_index)
        losses = []
        self.method.train()
        for batch in order[: self.steps * self.batch_size].reshape(self.steps, -1):
            loss = self._loss(np.sort(batch))
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(loss)
            self.optimizer.step()
            losses.append(loss.item())
            rate = len(losses) * self.batch_size / (time.perf_counter() - began)
            progress.update(task, advance=1, rate=rate, description=f"Epoch {number + 1}  loss {np.mean(losses):.4f}")
        seconds = time.perf_counter() - began
        held_out = self._held_out_loss()
        if not np.isfinite(held_out):
            raise RunError(f"The loss is no number after epoch {number + 1}; train again with a smaller --lr.")
        best = min((epoch.held_out_loss for epoch in self.record.history), default=np.inf)
        if held_out < best:
            write_atomic(self.folder / run.STUDENT, safetensors_bytes(_plain(self.student.state_dict())))
        epoch = run.Epoch(
            train_loss=float(np.mean(losses)),
            held_out_loss=held_out,
            images_per_second=self.steps * self.batch_size / seconds,
        )
        self.record = self.record.model_copy(
            update={
                "history": [*self.record.history, epoch],
                "best_epoch": number + 1 if held_out < best else self.record.best_epoch,
                "seconds": self.record.seconds + time.perf_counter() - began,
            }
        )

    def _loss(self, index: NDArray[np.intp]) -> Tensor:
        pixels = torch.from_numpy(self.images.pixels[index]).to(self.fabric.device)
        images = self.normalize(pixels).contiguous(memory_format=torch.channels_last)
        targets = self.store.get(index, images)
        with mixed_precision(self.fabric.device):
            loss: Tensor = self.method.loss(images, targets)
        return loss

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        self.method.eval()
        index = np.flatnonzero(self.images.held_out)
        total = sum(self._loss(batch).item() * len(batch) for batch in _batches(index, self.batch_size))
        return total / len(index)


def _summary(record: run.RunRecord) -> str:
    last = record.history[-1]
    return (
        f"Epoch {len(record.history)} of {record.settings.epochs}: loss {last.train_loss:.4f}, "
        f"held out {last.held_out_loss:.4f}, {last.images_per_second:.0f} images/s"
    )


def _batches(index: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    return (index[start : start + size] for start in range(0, len(index), size))


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
