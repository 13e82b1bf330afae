"""How long steps will take: constants at first, corrected by the steps that are done."""

from collections import defaultdict

import torch

from build_engines.study.inputs import Inputs
from build_engines.study.plan import Step

# Seconds on two cores of 2026 at 256 pixels; a factor for a method that is not named is that of `stfpm`.
_TRAINED_IMAGE = 0.022
_TEACHER_STEP = 0.15
_ENGINE = 5.0
_ENGINE_IMAGE = 0.008
_CALIBRATION = 4.0
_SENSITIVITY = 60.0
_QAT_FACTOR = 3.0
_TIMED_CALL = 0.02
_COST = {"stfpm": 1.0, "dcam": 1.0, "rd": 1.6, "us": 2.5}
_STANDARD_SIDE = 256
_CORES = 2


class Estimator:
    """Seconds a step takes: a first guess, times what steps of its kind took over what was guessed."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._guessed: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._taken: defaultdict[tuple[str, ...], float] = defaultdict(float)

    def observe(self, step: Step, seconds: float) -> None:
        """Learn from a step that is done."""
        for kind in _kinds(step):
            self._guessed[kind] += self._guess(step)
            self._taken[kind] += seconds

    def seconds(self, step: Step) -> float:
        """Expected seconds, > 0."""
        guess = self._guess(step)
        seen = next((kind for kind in _kinds(step) if self._guessed[kind]), None)
        return guess * self._taken[seen] / self._guessed[seen] if seen else guess

    def _guess(self, step: Step) -> float:
        return self._on_two_cores(step) * max(1.0, _CORES / torch.get_num_threads())

    def _on_two_cores(self, step: Step) -> float:
        inputs = self._inputs
        area = (inputs.effort.image_size / _STANDARD_SIDE) ** 2
        cost = _COST.get(step.method, 1.0) * area
        images = sum(inputs.images[name] for name in step.classes)
        tests = sum(inputs.tests[name] for name in step.classes)
        if step.kind == "training":
            trained = inputs.recipe(step.method).settings().epochs * images * _TRAINED_IMAGE * cost
            return _ENGINE + int(str(inputs.options(step.method).get("teacher_steps", 0))) * _TEACHER_STEP + trained
        if step.kind == "examples":
            return _ENGINE
        if step.kind == "latency" or step.engine is None:
            return _ENGINE + inputs.effort.repeats * 30 * _TIMED_CALL * area
        seconds = _ENGINE + (images + tests) * _ENGINE_IMAGE * cost
        if step.engine.precision == "int8":
            seconds += _CALIBRATION * cost
        if step.engine.keep_fp16:
            seconds += _SENSITIVITY * cost
        if step.engine.fine_tuning_epochs:
            factor = _QAT_FACTOR if step.engine.mode == "qat" else 1.0
            seconds += step.engine.fine_tuning_epochs * images * _TRAINED_IMAGE * factor * cost
        return seconds


def _kinds(step: Step) -> list[tuple[str, ...]]:
    """What steps are alike, the most alike first."""
    return [(step.kind, step.method, step.group), (step.kind, step.method), (step.kind, step.group), (step.kind,)]


def duration(seconds: float) -> str:
    """As people say it: `42 s`, `7 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
