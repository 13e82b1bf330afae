"""A training run: one folder with what was asked, what it was made from, and what came out."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from build_engines.errors import RunError
from build_engines.methods.base import OptimizerSettings
from engines.bundle import DataFingerprint, Teacher
from engines.files import write_atomic

RECORD = "run.json"
STUDENT = "student.safetensors"
CHECKPOINT = "checkpoint.ckpt"
CURVE = "curve.png"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainSettings(_Part):
    """All that decides a training's result, beside data and teacher weights.

    Attributes:
        options: of the method alone, as its `options` class has them.
    """

    method: str
    teacher: str
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=1)
    optimizer: OptimizerSettings
    options: dict[str, JsonValue] = {}
    image_size: int = Field(ge=32, le=1024, multiple_of=16)
    held_out: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)


class ClassSplit(_Part):
    """Names of a class's good images, relative to the data folder."""

    name: str
    train: list[str]
    held_out: list[str]


class Epoch(_Part):
    """Mean losses of one epoch, on training and held-out good images, and images trained per second."""

    train_loss: float
    held_out_loss: float
    images_per_second: float


class RunRecord(_Part):
    """`run.json`: written before the first epoch and after each."""

    settings: TrainSettings
    teacher: Teacher
    teacher_weights: str | None
    data_folder: Path
    data: DataFingerprint
    split: list[ClassSplit]
    device: str
    libraries: dict[str, str]
    history: Annotated[list[Epoch], Field(default_factory=list)]
    best_epoch: int = 0
    seconds: float = 0.0

    @property
    def is_finished(self) -> bool:
        return len(self.history) >= self.settings.epochs


def save(folder: Path, record: RunRecord) -> None:
    """Write `run.json` atomically."""
    write_atomic(folder / RECORD, (record.model_dump_json(indent=1) + "\n").encode())


def load(folder: Path) -> RunRecord:
    """Read a run.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    path = folder / RECORD
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"There is no training run in {folder}; make one with build-engines train.") from error
    except (OSError, ValidationError) as error:
        raise RunError(f"{path} cannot be read; train again into another folder.") from error


def load_finished(folder: Path) -> RunRecord:
    """Read a run that has trained all its epochs. Raises RunError."""
    record = load(folder)
    if not record.is_finished or not (folder / STUDENT).is_file():
        raise RunError(
            f"The run {folder} has finished {len(record.history)} of {record.settings.epochs} epochs; "
            "continue it with build-engines train … --resume."
        )
    return record
