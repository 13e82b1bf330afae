"""The study folder: what each finished step found, one JSON file a step, so that a study goes on where it stopped."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from build_engines.errors import StudyError
from build_engines.study.plan import Step
from build_engines.study.statistics import ClassScores
from engines.files import write_atomic

MARK = "study.json"
_MARK_CONTENT = {"format": "unispect study", "version": 1}
_KEY_DIGITS = 8


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingResult(_Part):
    """What a run was asked, as `run.json` has it, and how it went.

    Attributes:
        best_epoch: with the least loss on held-out good images.
        optimizer, learning_rate, weight_decay: of the optimiser.
        seconds: of training alone.
    """

    kind: Literal["training"] = "training"
    epochs: int
    best_epoch: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    image_size: int
    teacher: str
    seconds: float


class ClassResult(_Part):
    """An engine on one class's test pictures: figures as in `build_engines.metrics.ClassMetrics`, and all scores.

    Attributes:
        pictures: names relative to the data folder, sorted.
        defective, scores: of each picture.
        nearest: the other class whose centroid is nearest, None where there is no other.
        reach: largest distance of a held-out good part from the class's centroid over the distance of the nearest
            other class's centroid; above 1 classes overlap.
        cosine: of the two centroids.
    """

    metrics: dict[str, float | None]
    pictures: list[str]
    defective: list[bool]
    scores: list[float]
    nearest: str | None = None
    reach: float | None = None
    cosine: float | None = None

    def as_scores(self) -> ClassScores:
        """Labels and scores as arrays."""
        return ClassScores(np.array(self.defective, bool), np.array(self.scores, np.float64))


class EngineResult(_Part):
    """A measured engine.

    Attributes:
        size: bytes of the whole bundle on disk.
        packed_size: bytes it would take with its narrow weights packed; None where nothing is simulated.
        backend: that it was measured on.
        float_layers: convolutions of an INT8 engine that stay in floating point.
        map_error: mean absolute difference to the float32 map over the mean float32 map, held-out good images.
    """

    kind: Literal["engine"] = "engine"
    classes: dict[str, ClassResult]
    size: int
    packed_size: int | None
    backend: str
    float_layers: list[str]
    map_error: float | None


class Timing(_Part):
    """Milliseconds a picture, batch 1."""

    median: float
    p95: float


class LatencyResult(_Part):
    """Engines and PyTorch FP32 eager in turn in one process.

    Attributes:
        engines: by step id.
        eager: PyTorch by method.
        others: cores that other processes kept busy meanwhile; None where the system does not tell.
    """

    kind: Literal["latency"] = "latency"
    engines: dict[str, Timing]
    eager: dict[str, Timing]
    threads: int
    repeats: int
    machine: str
    libraries: dict[str, str]
    others: float | None


class ExampleMap(_Part):
    """One engine's map of one picture: 16-bit PNG in base64, whose largest value stands for `scale`."""

    png: str
    scale: float
    score: float
    threshold: float


class Example(_Part):
    """A test picture through the FP32 and the INT8 engine of one method."""

    picture: str
    part_class: str
    defect: str
    fp32: ExampleMap
    int8: ExampleMap


class ExamplesResult(_Part):
    kind: Literal["examples"] = "examples"
    examples: list[Example]


Result = Annotated[TrainingResult | EngineResult | LatencyResult | ExamplesResult, Field(discriminator="kind")]


class Record(_Part):
    """One step's outcome.

    Attributes:
        key: digest of settings and of everything the step was made from.
        seconds: that it took.
        sentence: why it failed; None where it is done.
        traceback: of an error that is no UnispectError.
    """

    step: str
    key: str
    seconds: float
    sentence: str | None = None
    traceback: str | None = None
    result: Result | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder: `study.json`, and in it runs, bundles and step records."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> "StudyFolder":
        """Check that a study may write there; nothing is written yet.

        Raises:
            StudyError: a file, or a folder that holds something else.
        """
        if root.exists() and not root.is_dir():
            raise StudyError(f"{root} is a file; give a folder as --out.")
        mark = root / MARK
        if mark.is_file():
            try:
                known = json.loads(mark.read_bytes()) == _MARK_CONTENT
            except ValueError:
                known = False
            if not known:
                raise StudyError(f"{mark} is not of a study of this unispect; give a new folder as --out.")
        elif root.is_dir() and any(root.iterdir()):
            raise StudyError(f"{root} exists and is no study; give a new folder as --out.")
        return cls(root)

    def begin(self) -> None:
        """Make the folder a study's."""
        write_atomic(self.root / MARK, (json.dumps(_MARK_CONTENT) + "\n").encode())

    def path(self, folder: str, step: Step, key: str, suffix: str = "") -> Path:
        """Where a step's run, bundle or record lies: named so that other settings never meet it."""
        return self.root / folder / f"{step.id.replace('/', '-')}-{key[:_KEY_DIGITS]}{suffix}"

    def load(self, step: Step, key: str) -> Record | None:
        """A step's record; None where there is none of this key, or none that can be read."""
        try:
            record = Record.model_validate_json(self.path("steps", step, key, ".json").read_bytes())
        except (OSError, ValidationError):
            return None
        return record if record.key == key else None

    def save(self, step: Step, record: Record) -> None:
        """Write a step's record atomically."""
        content = (record.model_dump_json(indent=1) + "\n").encode()
        write_atomic(self.path("steps", step, record.key, ".json"), content)


def digest(value: object) -> str:
    """SHA-256 of a value's JSON, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
