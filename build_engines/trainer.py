"""The training loop: epochs of batches, and after each a checkpoint that a run can go on from."""

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from build_engines import run
from build_engines.batch_norm import freeze_statistics, fresh_statistics
from build_engines.batches import Batch, TrainingBatches
from build_engines.errors import RunError
from build_engines.methods.base import Method
from build_engines.plots import plot_curve
from build_engines.precision import gradient_scaler, mixed_precision
from build_engines.processes import from_first
from build_engines.schedule import rate_factor
from build_engines.split_images import GoodImages
from build_engines.targets import TargetStore
from engines.files import replace_synced, write_atomic

# Images that batch statistics are taken from after an epoch.
_SETTLING = 128
# Drawing the curve takes longer than a small epoch.
_CURVE_SECONDS = 10.0


class Trainer:
    """One process's part in a run: it trains on its share of each batch, and the first process writes what comes out.

    Args:
        folder: the run's.
        record: of the run.
        fabric: launched.
        method: prepared, on Fabric's device.
        images: all of the run's.
        store: of their targets.
    """

    def __init__(
        self,
        folder: Path,
        record: run.RunRecord,
        fabric: Fabric,
        method: Method,
        images: GoodImages,
        store: TargetStore,
    ) -> None:
        self._folder, self._record, self._fabric, self._images, self._store = folder, record, fabric, images, store
        self._settings = record.settings
        self._batches = TrainingBatches(images.pixels, np.flatnonzero(~images.held_out), record.settings)
        # Processes count alike in the mean of gradients; a share that is larger by an image has to count for more.
        share = range(fabric.global_rank, self._batches.size, fabric.world_size)
        self._weight = len(share) * fabric.world_size / self._batches.size
        self._steps = record.settings.epochs * self._batches.count
        self._scaler = gradient_scaler(fabric.device, record.settings.mixed_precision)
        self._method, self._drawn = method, -_CURVE_SECONDS
        optimizer = record.settings.optimizer.build(method.student.parameters())
        self._parallel, self._optimizer = fabric.setup(method, optimizer)
        self._parallel.mark_forward_method("loss")

    def run(self, resume: bool) -> None:
        """Train to the last epoch, or until the held-out loss has stopped falling, and set the method's constants.

        Raises RunError where the loss is no number.
        """
        checkpoint = self._folder / run.CHECKPOINT
        if resume:
            self._restore(checkpoint)
        rate = TextColumn("{task.fields[rate]:.0f} images/s")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        with Progress(*columns) as progress:
            done = len(self._record.history) * self._batches.count
            task = progress.add_task("Training", total=self._steps, completed=done, rate=0.0)
            while not self._record.is_trained:
                self._epoch(progress, task)
                self._save(checkpoint)
                if not progress.console.is_terminal:
                    progress.console.print(_summary(self._record), highlight=False)
        from_first(self._fabric, self._finish)

    def _save(self, checkpoint: Path) -> None:
        scratch = checkpoint.with_suffix(".tmp")
        self._fabric.save(scratch, self._state())
        if self._fabric.is_global_zero:
            replace_synced(scratch, checkpoint)
            run.save(self._folder, self._record)
            if time.monotonic() - self._drawn > _CURVE_SECONDS:
                plot_curve(self._folder / run.CURVE, self._record)
                self._drawn = time.monotonic()

    @torch.no_grad()
    def _finish(self) -> None:
        self._method.student.load_state_dict(load_file(self._folder / run.STUDENT))
        self._method.eval()
        self._method.finish(self._images.only(self._images.held_out), self._fabric.device)
        self._write_student()
        plot_curve(self._folder / run.CURVE, self._record)
        self._record = self._record.model_copy(update={"is_finished": True})
        run.save(self._folder, self._record)

    def _write_student(self) -> None:
        state = {name: value.detach().cpu().contiguous() for name, value in self._method.student.state_dict().items()}
        write_atomic(self._folder / run.STUDENT, safetensors_bytes(state))

    def _state(self) -> dict[str, Any]:
        history = [epoch.model_dump() for epoch in self._record.history]
        progress = {"history": history, "best_epoch": self._record.best_epoch, "seconds": self._record.seconds}
        return {
            "student": self._method.student,
            "optimizer": self._optimizer,
            "scaler": self._scaler.state_dict(),
            "progress": progress,
        }

    def _restore(self, checkpoint: Path) -> None:
        """The checkpoint alone says how far a run is: the power can fail between it and the record."""
        progress: dict[str, Any] = {"history": [], "best_epoch": 0}
        # On another machine the folder may be another one.
        content = from_first(self._fabric, lambda: checkpoint.read_bytes() if checkpoint.is_file() else b"")
        if content:
            try:
                state = torch.load(BytesIO(content), "cpu", weights_only=True)
                self._method.student.load_state_dict(state["student"])
                self._optimizer.load_state_dict(state["optimizer"])
                progress, scaler = state["progress"], state["scaler"]
            except (KeyError, RuntimeError) as error:
                raise RunError(f"{checkpoint} is of another version of this run; train into another --out.") from error
            # Empty where the run began on a device that needs none.
            if scaler:
                self._scaler.load_state_dict(scaler)
        self._record = run.RunRecord.model_validate({**self._record.model_dump(), **progress})

    def _epoch(self, progress: Progress, task: TaskID) -> None:
        number, began = len(self._record.history), time.perf_counter()
        # What a method draws at random then depends on epoch and process alone, in a resumed run too.
        seeds = np.random.SeedSequence([self._settings.seed, number, self._fabric.global_rank])
        torch.manual_seed(seeds.generate_state(1)[0])
        self._method.train()
        settled = number >= round(self._settings.epochs * (1.0 - self._settings.frozen_statistics))
        if settled:
            freeze_statistics(self._method)
        losses: list[float] = []
        for batch in self._batches.epoch(number, self._fabric.global_rank, self._fabric.world_size):
            losses.append(self._step(batch, number * self._batches.count + len(losses)))
            rate = len(losses) * self._batches.size / (time.perf_counter() - began)
            progress.update(task, advance=1, rate=rate, description=f"Epoch {number + 1}  loss {np.mean(losses):.4f}")
        seconds = time.perf_counter() - began
        train_loss = self._over_processes(float(np.mean(losses)) * self._weight, "mean")
        if not settled:
            self._settle_statistics(number)
        held_out = self._held_out_loss()
        if not np.isfinite(held_out):
            raise RunError(f"The loss is no number after epoch {number + 1}; train again with a smaller --lr.")
        best = min((epoch.held_out_loss for epoch in self._record.history), default=np.inf)
        if held_out < best and self._fabric.is_global_zero:
            self._write_student()
        epoch = run.Epoch(
            train_loss=train_loss,
            held_out_loss=held_out,
            images_per_second=self._batches.count * self._batches.size / seconds,
        )
        self._record = self._record.model_copy(
            update={
                "history": [*self._record.history, epoch],
                "best_epoch": number + 1 if held_out < best else self._record.best_epoch,
                "seconds": self._record.seconds + time.perf_counter() - began,
            }
        )

    def _step(self, batch: Batch, step: int) -> float:
        settings = self._settings
        factor = rate_factor(settings.schedule, settings.warmup, step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.optimizer.learning_rate * factor
        loss = self._loss(batch, self._parallel)
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(self._scaler.scale(loss * self._weight))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.item()

    def _loss(self, batch: Batch, method: Any) -> Tensor:
        targets = self._store.get(batch.index, batch.clean)
        corrupted = batch.shown is not batch.clean
        seen = self._seen(batch, targets) if corrupted and self._method.reads_teacher else None
        with mixed_precision(self._fabric.device, self._settings.mixed_precision):
            loss: Tensor = method.loss(self._store.inputs(batch.shown), targets, seen)
        return loss

    def _seen(self, batch: Batch, targets: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """What the teacher makes of the images as they are shown: `targets`, but for those with defects."""
        altered = batch.altered
        if not len(altered):
            return None
        places = torch.from_numpy(altered).to(self._fabric.device)
        found = self._store.compute(batch.shown[altered])
        return tuple(
            target.to(of_altered.dtype).index_copy(0, places, of_altered)
            for target, of_altered in zip(targets, found, strict=True)
        )

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        self._method.eval()
        index = np.flatnonzero(self._images.held_out)
        share = index[self._fabric.global_rank :: self._fabric.world_size]
        total = 0.0
        for chosen in _groups(share, self._batches.size):
            pixels = self._images.pixels[chosen]
            total += self._loss(Batch(chosen, pixels, pixels), self._method).item() * len(chosen)
        return self._over_processes(total, "sum") / len(index)

    @torch.no_grad()
    def _settle_statistics(self, epoch: int) -> None:
        """Batch statistics of the weights as they are."""
        with fresh_statistics(self._method):
            for batch in self._batches.plain(epoch, _SETTLING, self._fabric.global_rank, self._fabric.world_size):
                self._loss(batch, self._method)

    def _over_processes(self, value: float, operation: str) -> float:
        local = torch.tensor(value, dtype=torch.float64, device=self._fabric.device)
        return float(self._fabric.all_reduce(local, reduce_op=operation))


def _summary(record: run.RunRecord) -> str:
    last = record.history[-1]
    return (
        f"Epoch {len(record.history)} of {record.settings.epochs}: loss {last.train_loss:.4f}, "
        f"held out {last.held_out_loss:.4f}, {last.images_per_second:.0f} images/s"
    )


def _groups(index: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    return (index[start : start + size] for start in range(0, len(index), size))
