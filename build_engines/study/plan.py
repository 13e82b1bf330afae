"""Which trainings and which engines a study makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from build_engines.quantization import defaults
from build_engines.study.words import times
from engines.bundle import Precision

UNIFIED = "unified"
CALIBRATIONS = ("train", "random-normal", "train+noise", "synthetic-anomaly")
CALIBRATORS = ("minmax", "entropy", "percentile", "mse")
QUICK_CLASSES = 2

Kind = Literal["training", "engine", "latency", "examples"]


@dataclass(frozen=True)
class Effort:
    """How much work a study puts in; None leaves a value to the method.

    Attributes:
        epochs: at most so many of a training.
        calibration_images: of each INT8 engine.
        fine_tuning_epochs: of QAT and of its control.
        repeats: timed calls of each engine.
        options: of a method alone, where they are not its own.
    """

    epochs: int | None
    batch_size: int | None
    image_size: int
    calibration_images: int | None
    fine_tuning_epochs: int
    repeats: int
    options: Mapping[str, dict[str, JsonValue]] = field(default_factory=dict)


FULL = Effort(epochs=None, batch_size=None, image_size=256, calibration_images=None, fine_tuning_epochs=1, repeats=100)
QUICK = Effort(
    epochs=3,
    batch_size=8,
    image_size=128,
    calibration_images=16,
    fine_tuning_epochs=1,
    repeats=10,
    options={"us": {"teacher_steps": 10}},
)


class Engine(BaseModel):
    """How an engine is made from a run: the options of `build-engines quantize`; None is that command's default.

    Attributes:
        fine_tuning_epochs: of QAT; in mode ptq, of the float model before it is quantized: QAT's control.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Precision
    mode: Literal["ptq", "qat"] = "ptq"
    calibration: str = "train"
    calibrator: str = defaults.CALIBRATOR
    equalization: float | None = None
    keep_fp16: str | None = None
    weight_bits: int = Field(default=8, ge=2, le=8)
    activation_bits: int = Field(default=8, ge=2, le=8)
    fine_tuning_epochs: int | None = None

    @property
    def simulated(self) -> bool:
        """Whether the integers are narrower than any that the engine computes with."""
        return min(self.weight_bits, self.activation_bits) < 8

    @property
    def is_default_calibration(self) -> bool:
        """Whether ranges come from training images by the default calibrator."""
        return self.calibration == "train" and self.calibrator == defaults.CALIBRATOR

    @property
    def label(self) -> str:
        """As people read it."""
        if self.precision != "int8":
            more = f", {times(self.fine_tuning_epochs, 'more epoch')}" if self.fine_tuning_epochs else ""
            return self.precision.upper() + more
        if self.simulated:
            activations = "as INT8" if self.activation_bits == 8 else f"of {self.activation_bits} bits"
            return f"weights of {self.weight_bits} bits, activations {activations} (simulated)"
        if self.mode == "qat":
            return f"INT8 QAT, {times(self.fine_tuning_epochs or 0, 'epoch')}"
        label = f"INT8 PTQ, {self.calibration}, {self.calibrator}"
        if self.fine_tuning_epochs:
            label = f"INT8 PTQ after {times(self.fine_tuning_epochs, 'more epoch')} (QAT's control)"
        if self.equalization is not None:
            label += f", equalization {self.equalization:g}"
        return label + (f", {self.keep_fp16} in FP16" if self.keep_fp16 else "")

    @property
    def slug(self) -> str:
        """As a file name."""
        parts: list[str] = [self.precision]
        if self.precision == "int8":
            parts += [self.mode, self.calibration, self.calibrator]
            parts += [f"eq{self.equalization:g}"] if self.equalization is not None else []
            parts += [f"keep-{self.keep_fp16}"] if self.keep_fp16 else []
            parts += [f"w{self.weight_bits}a{self.activation_bits}"] if self.simulated else []
        parts += [f"tuned{self.fine_tuning_epochs}"] if self.fine_tuning_epochs else []
        return "-".join(parts).replace("+", "-and-").replace(":", "")


@dataclass(frozen=True)
class Step:
    """One piece of work, recorded when it is done.

    Attributes:
        group: what steps of a kind are called together.
        method: empty for latency, which is of all methods.
        scope: `unified`, or the one class that a one-class run knows.
        classes: part classes in the run.
        engine: of engine steps alone.
    """

    kind: Kind
    group: str
    method: str = ""
    scope: str = ""
    classes: tuple[str, ...] = ()
    engine: Engine | None = None

    @property
    def id(self) -> str:
        """`METHOD/SCOPE/WHAT`."""
        if self.engine is not None:
            return engine_id(self.method, self.scope, self.engine)
        return "/".join(part for part in (self.method, self.scope, self.kind) if part)

    @property
    def needs(self) -> str | None:
        """The id of the training that an engine is made from."""
        return training_id(self.method, self.scope) if self.engine else None

    @property
    def label(self) -> str:
        """As people read it."""
        what = self.engine.label if self.engine else self.group
        return " ".join(part for part in (self.method, self.scope, what) if part)

    @property
    def keeps_bundle(self) -> bool:
        """Whether the engine is used again, for latency or example maps."""
        return self.engine is not None and self.scope == UNIFIED and is_timed(self.engine)


FP32 = Engine(precision="fp32")
INT8 = Engine(precision="int8")
RANDOM_NORMAL = Engine(precision="int8", calibration="random-normal")


def training_id(method: str, scope: str = UNIFIED) -> str:
    """The id of a training's step."""
    return f"{method}/{scope}/training"


def engine_id(method: str, scope: str, engine: Engine) -> str:
    """The id of an engine's step."""
    return f"{method}/{scope}/{engine.slug}"


def engine_groups(quick: bool, epochs: int) -> dict[str, list[Engine]]:
    """Engines made of each method's unified run, by what they are compared for.

    Not fully factorial: calibration data and calibrators are crossed at INT8 PTQ, everything else varies alone around
    the default, so that each difference has one cause.

    Args:
        epochs: of fine-tuning.
    """
    tuned = {"fine_tuning_epochs": epochs}
    qat = [Engine(precision="int8", mode="qat", **tuned), Engine(precision="int8", **tuned)]
    if quick:
        return {
            "precisions": [FP32, Engine(precision="fp16")],
            "calibration": [INT8, RANDOM_NORMAL],
            "QAT and its control": qat,
            "under 8 bits (simulated)": [Engine(precision="int8", weight_bits=4)],
        }
    grid = [Engine(precision="int8", calibration=data, calibrator=by) for data in CALIBRATIONS for by in CALIBRATORS]
    narrow = [(bits, activations) for bits in (6, 4) for activations in (8, bits)]
    # What shares calibration images stands together: they are run once.
    return {
        "precisions": [FP32, Engine(precision="fp16"), Engine(precision="bf16")],
        "blocks in FP16": [Engine(precision="int8", keep_fp16="auto:2")],
        "under 8 bits (simulated)": [Engine(precision="int8", weight_bits=w, activation_bits=a) for w, a in narrow],
        "calibration": grid,
        "no equalization": [Engine(precision="int8", equalization=0.0)],
        "QAT and its control": [*qat, Engine(precision="fp32", **tuned)],
    }


def is_timed(engine: Engine) -> bool:
    """Whether the engine's speed can differ from that of another one in the plan.

    Calibration changes scales alone, and narrower integers are only simulated.
    """
    moves_scales = engine.equalization is not None or (engine.fine_tuning_epochs and engine.mode == "ptq")
    return not engine.simulated and engine.is_default_calibration and not moves_scales


def make_plan(methods: Sequence[str], classes: Sequence[str], quick: bool) -> list[Step]:
    """All steps in the order in which they run.

    Args:
        methods: their names.
        classes: part classes of the data folder; a quick study takes the first two.
    """
    chosen = tuple(classes[:QUICK_CLASSES]) if quick else tuple(classes)
    effort = QUICK if quick else FULL
    steps: list[Step] = []
    for method in methods:
        steps += _of_run(method, UNIFIED, chosen, engine_groups(quick, effort.fine_tuning_epochs))
        steps.append(Step("examples", "example maps", method, UNIFIED, chosen))
        # One class alone is what the unified run is already.
        for name in chosen if len(chosen) > 1 else ():
            steps += _of_run(method, name, (name,), {"one-class engines": [FP32] if quick else [FP32, INT8]})
    return [*steps, Step("latency", "latency, side by side")]


def _of_run(method: str, scope: str, classes: tuple[str, ...], groups: dict[str, list[Engine]]) -> list[Step]:
    steps = [Step("training", "training", method, scope, classes)]
    for group, engines in groups.items():
        steps += [Step("engine", group, method, scope, classes, engine) for engine in engines]
    return steps
