"""A training run: one folder with what was asked, what it was made from, and what came out."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from build_engines.errors import RunError
from build_engines.methods.base import OptimizerSettings
from build_engines.schedule import Schedule
from engines.bundle import DataFingerprint, Teacher, Tiling
from engines.files import write_atomic
from engines.tiling import TileGrid

RECORD = "run.json"
STUDENT = "student.safetensors"
CHECKPOINT = "checkpoint.ckpt"
CURVE = "curve.png"
LARGEST_INPUT = 1024
LARGEST_IMAGE = 4096


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainSettings(_Part):
    """All that decides a training's result, beside data and teacher weights.

    Attributes:
        schedule: how the learning rate goes over the steps; `warmup` is the share of them in which it rises.
        patience: epochs without a better held-out loss after which training stops; 0 trains them all.
        augmentation: shift training images a little, and change their brightness and contrast.
        corruption: share of training images that the student sees with artificial defects, to answer as the teacher
            does to the clean image.
        frozen_statistics: share of the epochs, the last ones, that train with batch statistics as they are, as
            inference has them.
        mixed_precision: compute in 16 bits where the device does.
        options: of the method alone, as its `options` class has them.
        image_size: height and width that images are resized to.
        tile: side in pixels of the tiles that images are then cut into for the network; None where it takes them whole.
        overlap: by how many pixels neighbouring tiles overlap. Like the sizes a multiple of 16, the network's coarsest
            stride, so that its cells lie alike on all tiles.

    Raises:
        ValueError: settings contradict each other.
    """

    method: str
    teacher: str
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    optimizer: OptimizerSettings
    schedule: Schedule = "constant"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    patience: int = Field(default=0, ge=0)
    augmentation: bool = False
    corruption: float = Field(default=0.0, ge=0, le=1)
    frozen_statistics: float = Field(default=0.0, ge=0, le=1)
    mixed_precision: bool = True
    options: dict[str, JsonValue] = {}
    image_size: int = Field(ge=32, le=LARGEST_IMAGE, multiple_of=16)
    tile: int | None = Field(default=None, ge=32, multiple_of=16)
    overlap: int = Field(default=0, ge=0, multiple_of=16)
    held_out: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.patience >= self.epochs:
            raise ValueError(f"patience {self.patience} must be below epochs {self.epochs}, or 0 to train them all.")
        if self.input_size > LARGEST_INPUT:
            raise ValueError(
                f"a network of {self.input_size} pixels is above {LARGEST_INPUT}; cut images with a smaller tile."
            )
        if self.tile is not None and self.tile > self.image_size:
            raise ValueError(f"tile {self.tile} must be no larger than image_size {self.image_size}.")
        if self.tile is None and self.overlap:
            raise ValueError(f"overlap {self.overlap} goes with tile alone; give tile, or leave overlap out.")
        if self.tile is not None and 2 * self.overlap >= self.tile:
            raise ValueError(f"overlap {self.overlap} must be below half of tile {self.tile}.")
        return self

    @property
    def input_size(self) -> int:
        """Height and width of what the network takes."""
        return self.tile or self.image_size

    @property
    def tiling(self) -> Tiling | None:
        """As a bundle records it."""
        return Tiling(height=self.image_size, width=self.image_size, overlap=self.overlap) if self.tile else None

    @property
    def grid(self) -> TileGrid | None:
        """Where the tiles of an image lie."""
        return self.tiling.grid(self.input_size, self.input_size) if self.tiling else None


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
    """`run.json`: written before the first epoch, after each, and when the run is finished.

    Attributes:
        devices: number of processes that train together, each on a device of its own, all machines' together.
        machines: number of machines that they are on.
        is_finished: trained, and the method's constants set.
    """

    settings: TrainSettings
    teacher: Teacher
    teacher_weights: str | None
    data_folder: Path
    data: DataFingerprint
    split: list[ClassSplit]
    device: str
    devices: int = 1
    machines: int = 1
    libraries: dict[str, str]
    history: Annotated[list[Epoch], Field(default_factory=list)]
    best_epoch: int = 0
    seconds: float = 0.0
    is_finished: bool = Field(default_factory=lambda known: _had_all_epochs(known))

    @property
    def stopped_early(self) -> bool:
        """Whether the held-out loss has not improved for as long as the settings wait."""
        return 0 < self.settings.patience <= len(self.history) - self.best_epoch

    @property
    def is_trained(self) -> bool:
        """Whether no epoch is to come."""
        return len(self.history) >= self.settings.epochs or self.stopped_early


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
    """Read a run that has trained to its end. Raises RunError."""
    record = load(folder)
    if not record.is_finished or not (folder / STUDENT).is_file():
        raise RunError(
            f"The run {folder} has finished {len(record.history)} of {record.settings.epochs} epochs; "
            "continue it with build-engines train … --resume."
        )
    return record


def _had_all_epochs(known: dict[str, Any]) -> bool:
    """Whether a run from before `is_finished` was written has ended."""
    return "settings" in known and len(known.get("history", ())) >= known["settings"].epochs
