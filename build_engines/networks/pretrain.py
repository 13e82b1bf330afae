"""Trains the project's own small teacher on procedural pictures: no network, no foreign data, one CPU."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from build_engines.networks.normalize import Normalize
from build_engines.networks.procedural import CLASSES, sample
from build_engines.networks.resnet import build_trunk
from build_engines.networks.seeding import seeded
from build_engines.networks.weights import PROCEDURAL_ARCHITECTURE
from engines.errors import UnispectError
from engines.files import write_atomic

_TEST_IMAGES = 4000


class PretrainError(UnispectError):
    """The teacher cannot be trained with these settings."""


class _Pictures(Dataset[tuple[NDArray[np.uint8], int]]):
    def __init__(self, seed: int, start: int, count: int) -> None:
        self._seed, self._start, self._count = seed, start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        if index >= self._count:
            raise IndexError(index)
        return sample(self._seed, self._start + index)


class _Student(nn.Module):
    """The trunk with two heads on each stage: the class from pooled features, the local colour from each place.

    Heads on every stage because distillation compares all three. The colour head because class alone teaches a network
    to overlook colour, and a stain is often nothing else.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.trunk = build_trunk(PROCEDURAL_ARCHITECTURE, seed)
        with seeded(seed):
            self.classify = nn.ModuleList(_head(c) for c in self.trunk.channels)
            self.colour = nn.ModuleList(nn.Conv2d(c, 3, 1) for c in self.trunk.channels)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.trunk(images)
        logits = [head(f.mean((2, 3))) for head, f in zip(self.classify, features, strict=True)]
        return logits, [head(f) for head, f in zip(self.colour, features, strict=True)]

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of the batch, and the logits of the last stage."""
        logits, colours = self(images)
        named = sum(functional.cross_entropy(stage.float(), labels) for stage in logits)
        seen = sum(functional.mse_loss(c.float(), functional.adaptive_avg_pool2d(images, c.shape[2:])) for c in colours)
        return named + seen, logits[-1]


def pretrain_teacher(
    out: Path,
    images: int = 300_000,
    seed: int = 0,
    batch_size: int = 64,
    learning_rate: float = 4e-3,
    workers: int = 1,
) -> float:
    """Train the trunk `resnet18_half` on `images` procedural pictures, each seen once, and write it as float16.

    Args:
        out: the .safetensors file to write; keys are torchvision's, BatchNorm statistics float32. Metadata: command,
            architecture, seed, images, accuracy, torch.
        images: pictures to train on, at least 10 batches of them.
        seed: of pictures and first weights; the same seed, thread count and machine give the same file.
        batch_size: pictures a step.
        learning_rate: peak of the one-cycle schedule.
        workers: processes that draw pictures; one keeps up with two training cores.

    Returns:
        The share of 4000 unseen pictures whose class the last stage names.

    Raises:
        PretrainError: `images` is less than 10 batches.
    """
    steps = images // batch_size
    if steps < 10:
        raise PretrainError(
            f"{images} images are too few to train a teacher; give at least {10 * batch_size}, 300000 for a good one."
        )
    model = _Student(seed).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.15)
    batches = _batches(_Pictures(seed, 0, steps * batch_size), batch_size, workers)
    with _progress() as progress:
        task = progress.add_task("teacher", total=steps, loss=float("nan"), accuracy=0.0)
        loss_mean, accuracy_mean = 0.0, 0.0
        for step, (pictures, labels) in enumerate(batches):
            with torch.autocast("cpu", torch.bfloat16):
                loss, logits = model.loss(pictures, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            share = max(0.02, 1.0 / (step + 1))
            loss_mean += share * (float(loss.detach()) - loss_mean)
            accuracy_mean += share * (float((logits.argmax(1) == labels).float().mean()) - accuracy_mean)
            progress.update(task, advance=1, loss=loss_mean, accuracy=accuracy_mean)
    accuracy = _accuracy(model, _batches(_Pictures(seed, images, _TEST_IMAGES), batch_size, workers))
    metadata = {
        "command": f"build-engines pretrain-teacher --images {images} --seed {seed}",
        "architecture": PROCEDURAL_ARCHITECTURE,
        "seed": str(seed),
        "images": str(images),
        "accuracy": f"{accuracy:.4f}",
        "torch": torch.__version__,
    }
    write_atomic(out, safetensors.torch.save(_stored(model.trunk), metadata))
    return accuracy


def _batches(pictures: _Pictures, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    normalize = Normalize()
    loader = DataLoader(pictures, batch_size, num_workers=workers, worker_init_fn=_one_thread if workers else None)
    for images, labels in loader:
        # Permuting NHWC leaves the memory as it is: this is channels-last already.
        yield normalize(images), labels


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)


@torch.inference_mode()
def _accuracy(model: _Student, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    right = [model(images)[0][-1].argmax(1) == labels for images, labels in batches]
    return float(torch.cat(right).float().mean())


def _stored(trunk: nn.Module) -> dict[str, Tensor]:
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {
        name: (value if name.endswith(statistics) else value.half()).contiguous()
        for name, value in trunk.state_dict().items()
    }


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.3f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


def _head(channels: int) -> nn.Sequential:
    # Without the normalisation the random colours drown what the pooled features say of structure.
    return nn.Sequential(nn.BatchNorm1d(channels, affine=False), nn.Linear(channels, len(CLASSES)))
