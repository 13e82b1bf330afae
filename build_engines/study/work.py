"""What each kind of step does."""

import os
import shutil
import time
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from build_engines import run
from build_engines.benchmark import cpu_name, side_by_side
from build_engines.commands.quantize import quantize_run
from build_engines.commands.train import train_run
from build_engines.data.folder import TestImage, find_tests
from build_engines.evaluation import Evaluation, evaluate
from build_engines.finished_run import FinishedRun
from build_engines.libraries import versions
from build_engines.study.inputs import Inputs
from build_engines.study.plan import FP32, INT8, Engine, Step
from build_engines.study.records import (
    ClassResult,
    EngineResult,
    Example,
    ExampleMap,
    ExamplesResult,
    LatencyResult,
    Timing,
    TrainingResult,
)
from engines import bundle as bundles
from engines.bundle import MODEL, Bundle, PartClass
from engines.detector import Detector
from engines.heatmap import encode_map
from engines.images import PartImage, decode

# Decoded test pictures that are kept: some 200 kB each.
_KEPT_PICTURES = 2048
_QUIET = Console(quiet=True)


class Work:
    """Does steps; decoded test pictures, and what engines of one run share, are kept from one to the next."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._run: FinishedRun | None = None
        side = inputs.effort.image_size
        self._read = lru_cache(_KEPT_PICTURES)(lambda path: _decode(path, side))

    def train(self, step: Step, out: Path) -> TrainingResult:
        """Train, or go on with a run that was interrupted."""
        recipe = self._inputs.recipe(step.method).model_dump(exclude_defaults=True)
        asked = {"method": step.method, **recipe, "classes": list(step.classes)}
        train_run(data=self._inputs.data, out=out, console=_QUIET, resume=True, **asked)
        record = run.load_finished(out)
        optimizer = record.settings.optimizer
        return TrainingResult(
            epochs=len(record.history),
            best_epoch=record.best_epoch,
            batch_size=record.settings.batch_size,
            optimizer=optimizer.name,
            learning_rate=optimizer.learning_rate,
            weight_decay=optimizer.weight_decay,
            image_size=record.settings.image_size,
            teacher=f"{record.teacher.architecture} ({record.teacher.weights})",
            seconds=record.seconds,
        )

    def make_engine(self, step: Step, engine: Engine, run_folder: Path, out: Path) -> EngineResult:
        """Make a bundle and measure it; it is deleted again unless another step needs it."""
        if self._run is None or self._run.folder != run_folder:
            self._run = FinishedRun(run_folder)
        images = self._inputs.effort.calibration_images
        quantize_run(self._run, out, console=_QUIET, name=step.method, images=images, **_options(engine))
        bundle = bundles.load(out)
        detector = Detector.open(bundle)
        evaluation = evaluate(detector, self._inputs.data, self._read)
        size, model = sum(file.stat().st_size for file in out.iterdir()), (out / MODEL).stat().st_size
        packed = _metric(bundle, "packed", "model_bytes")
        quantization = bundle.manifest.quantization
        result = EngineResult(
            classes={name: self._class_result(evaluation, bundle, name) for name in step.classes},
            size=size,
            packed_size=None if packed is None else size - model + int(packed),
            backend=detector.backend.name,
            float_layers=quantization.float_layers if quantization else [],
            map_error=_metric(bundle, "against_fp32", "map_error_relative"),
        )
        if not step.keeps_bundle:
            shutil.rmtree(out)
        return result

    def time_engines(self, folders: Mapping[str, Path]) -> LatencyResult:
        """Time engines, by step id, and PyTorch FP32 eager in turn."""
        detectors = {name: Detector.open(bundles.load(folder)) for name, folder in folders.items()}
        busy, began = _others_seconds(), time.perf_counter()
        stages = side_by_side(detectors, self._inputs.effort.repeats)
        wall, busy_now = time.perf_counter() - began, _others_seconds()
        timings = {name: Timing(median=stage.median, p95=stage.p95) for name, stage in stages.items()}
        return LatencyResult(
            engines={name: timings[name] for name in folders},
            eager={name: timing for name, timing in timings.items() if name not in folders},
            threads=len(os.sched_getaffinity(0)),
            repeats=self._inputs.effort.repeats,
            machine=cpu_name(),
            libraries=versions(),
            others=None if busy is None or busy_now is None else max(0.0, (busy_now - busy) / wall),
        )

    def show_examples(self, folders: Mapping[Engine, Path]) -> ExamplesResult:
        """Maps of the same pictures for all methods: two defective ones a class, through `FP32` and `INT8`."""
        detectors = {engine: Detector.open(bundles.load(folder)) for engine, folder in folders.items()}
        examples = []
        for name in self._inputs.classes:
            defective = [test for test in find_tests(self._inputs.data, [name]) if not test.is_good]
            for third in sorted({len(defective) // 3, 2 * len(defective) // 3}):
                test = defective[third]
                maps = {engine: self._map(detector, test) for engine, detector in detectors.items()}
                examples.append(
                    Example(
                        picture=self._name(test.path),
                        part_class=name,
                        defect=test.defect,
                        fp32=maps[FP32],
                        int8=maps[INT8],
                    )
                )
        return ExamplesResult(examples=examples)

    def _map(self, detector: Detector, test: TestImage) -> ExampleMap:
        image = self._read(test.path)
        found = detector.judge(detector.infer([image]), 0, image, test.part_class)
        png, scale = encode_map(found.anomaly_map)
        return ExampleMap(png=b64encode(png).decode(), scale=scale, score=found.score, threshold=found.threshold)

    def _class_result(self, evaluation: Evaluation, bundle: Bundle, name: str) -> ClassResult:
        judged = [one for one in evaluation.judged if one.test.part_class == name]
        classes = bundle.manifest.part_classes
        return ClassResult(
            metrics=dict(vars(evaluation.classes[name])),
            pictures=[self._name(one.test.path) for one in judged],
            defective=[not one.test.is_good for one in judged],
            scores=[one.inspection.score for one in judged],
            **_likeness(next(part for part in classes if part.name == name), classes),
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self._inputs.data).as_posix()


def _decode(path: Path, side: int) -> PartImage:
    return decode(path.read_bytes(), side, side)


def _options(engine: Engine) -> dict[str, Any]:
    """Arguments of `quantize_run`; what is left at its default is not said."""
    options: dict[str, Any] = {"precision": engine.precision}
    if engine.precision == "int8":
        options |= {"mode": engine.mode, "calibration": engine.calibration, "calibrator": engine.calibrator}
        options |= {} if engine.equalization is None else {"equalization": engine.equalization}
        options |= {"keep_fp16": engine.keep_fp16} if engine.keep_fp16 else {}
    if engine.simulated:
        options |= {"weight_bits": engine.weight_bits, "activation_bits": engine.activation_bits}
    if engine.fine_tuning_epochs is not None:
        options["epochs"] = engine.fine_tuning_epochs
    return options


def _likeness(part: PartClass, classes: list[PartClass]) -> dict[str, object]:
    """How a class lies to the nearest other one in the space of embeddings (see `ClassResult`)."""
    others = {other.name: np.array(other.centroid) for other in classes if other.name != part.name}
    if not others:
        return {}
    own = np.array(part.centroid)
    distances = {name: float(np.linalg.norm(own - other)) for name, other in others.items()}
    nearest = min(distances, key=lambda name: distances[name])
    cosine = float(own @ others[nearest] / (np.linalg.norm(own) * np.linalg.norm(others[nearest])))
    return {"nearest": nearest, "reach": part.max_distance / max(distances[nearest], 1e-12), "cosine": cosine}


def _metric(bundle: Bundle, group: str, name: str) -> float | None:
    figures = bundle.manifest.metrics.get(group)
    value = figures.get(name) if isinstance(figures, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _others_seconds() -> float | None:
    """Processor seconds that all other processes have used since the machine started; None where Linux is not."""
    try:
        user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    except (OSError, ValueError):
        return None
    own = os.times()
    return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK") - own.user - own.system
