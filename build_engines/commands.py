"""What the commands do, once their arguments are read."""

import json as json_module
from pathlib import Path
from typing import get_args

import onnx
import torch
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from build_engines import lint, run
from build_engines.benchmark import benchmark
from build_engines.data.folder import find_parts
from build_engines.errors import DataError, GraphError, RunError, WeightsError
from build_engines.evaluation import evaluate
from build_engines.export import for_tensorrt
from build_engines.methods import METHODS
from build_engines.networks.resnet import ARCHITECTURES
from build_engines.networks.weights import PROCEDURAL, PROCEDURAL_ARCHITECTURE
from build_engines.packaging import QuantizeSettings, package
from build_engines.quantization.calibration import CALIBRATORS
from build_engines.report import write_page
from build_engines.training import start_record, train
from engines import bundle as bundles
from engines.bundle import MANIFEST, Precision
from engines.detector import Detector
from engines.errors import UnispectError
from engines.files import write_atomic

DEFAULT_TEACHER = "resnet18"
CALIBRATION_IMAGES = 128


class ArgumentError(UnispectError):
    """An option has a value that is not allowed."""


def train_run(
    *,
    data: Path,
    out: Path,
    method: str,
    classes: list[str] | None,
    teacher: str | None,
    teacher_weights: str | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    image_size: int,
    held_out: float,
    seed: int,
    device: str,
    resume: bool,
    console: Console,
) -> None:
    """Start a run, or go on with one when `resume` and the arguments are those it began with.

    Raises UnispectError.
    """
    _choose("method", method, METHODS)
    architecture = teacher or (PROCEDURAL_ARCHITECTURE if teacher_weights == PROCEDURAL else DEFAULT_TEACHER)
    _choose("teacher", architecture, ARCHITECTURES)
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


def quantize_run(
    run_folder: Path,
    out: Path,
    precision: str,
    mode: str,
    calibration: str,
    calibrator: str,
    images: int | None,
    false_reject: float | None,
    name: str | None,
    version: str,
    console: Console,
) -> None:
    """Write a bundle from a run. Raises UnispectError."""
    _choose("precision", precision, get_args(Precision))
    _choose("mode", mode, ("ptq",))
    _choose("calibration", calibration, ("train",))
    _choose("calibrator", calibrator, CALIBRATORS)
    record = run.load_finished(run_folder)
    named = name or out.resolve().name
    for option, value in (("name", named), ("version", version)):
        if not bundles.is_name(value):
            raise ArgumentError(f"--{option} {value!r} may hold letters, digits, '.', '_' and '-' alone.")
    if out.exists() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise ArgumentError(f"{out} exists and is no bundle; give a new folder as --out.")
    available = sum(record.data.train.values())
    settings = QuantizeSettings(
        precision=precision,  # type: ignore[arg-type]
        calibration=calibration,
        calibrator=calibrator,
        images=images or min(CALIBRATION_IMAGES, available),
        false_reject_rate=false_reject,
    )
    bundle = package(run_folder, settings, out, named, version)
    show_bundle(bundle.folder, console)
    if false_reject is None:
        from engines.conformal import DEFAULT_FALSE_REJECT_RATE, images_needed

        coarse = [part for part in bundle.manifest.part_classes if part.false_reject_rate > DEFAULT_FALSE_REJECT_RATE]
        if coarse:
            console.print(
                f"Too few held-out good images for a false-reject rate of 1 %: it is up to "
                f"{max(part.false_reject_rate for part in coarse):.1%} here; "
                f"{images_needed(DEFAULT_FALSE_REJECT_RATE)} held-out images a class would give 1 %."
            )


def evaluate_bundle(
    folder: Path, data: Path, backend: str, json: Path | None, page: Path | None, threads: int, console: Console
) -> None:
    """Print the accuracy table; write JSON and page where asked. Raises UnispectError."""
    detector = Detector.open(bundles.load(folder), backend, threads)
    evaluation = evaluate(detector, data)
    columns = {
        "image_auroc": "Image AUROC",
        "pixel_auroc": "Pixel AUROC",
        "pro": "PRO",
        "average_precision": "AP",
        "f1": "F1",
        "false_reject": "False reject",
        "miss": "Miss",
        "recognition": "Recognised",
    }
    table = Table("Part class", *columns.values())
    for name, found in evaluation.classes.items():
        table.add_row(name, *(_number(getattr(found, column)) for column in columns))
    mean = evaluation.mean()
    table.add_section()
    table.add_row("mean", *(_number(mean[column]) for column in columns))
    console.print(table)
    if json is not None:
        figures = {
            "bundle": {"name": detector.bundle.manifest.name, "digest": detector.bundle.manifest.digest},
            "backend": detector.backend.name,
            **evaluation.as_json(),
        }
        write_atomic(json, (json_module.dumps(figures, indent=1) + "\n").encode())
    shown = page or (json.with_suffix(".html") if json else None)
    if shown is not None:
        write_page(shown, detector.bundle, detector.backend.name, evaluation)
        console.print(f"Page: {shown}")


def benchmark_bundle(
    folder: Path, backend: str, image: Path | None, repeats: int, threads: int, json: Path | None, console: Console
) -> None:
    """Print the speed table; write JSON where asked. Raises UnispectError."""
    bundle = bundles.load(folder)
    detector = Detector.open(bundle, backend, threads)
    picture = image or bundle.golden_path
    if not picture.is_file():
        raise DataError(f"There is no picture {picture}; give an image file as --image.")
    figures = benchmark(detector, picture.read_bytes(), repeats, threads)
    table = Table(
        "Stage", "Median ms", "p95 ms", "p99 ms", "Images/s", title=f"{detector.backend.name}, {picture.name}"
    )
    for name, stage in figures.stages.items():
        table.add_row(name, *(f"{value:.2f}" for value in (stage.median, stage.p95, stage.p99)), f"{stage.rate:.0f}")
    console.print(table)
    console.print(
        f"The engine takes {figures.ratio:.3f} of PyTorch FP32 eager's time: {1 / figures.ratio:.2f} times faster."
    )
    if json is not None:
        write_atomic(json, (json_module.dumps(figures.as_json(), indent=1) + "\n").encode())


def show_bundle(folder: Path, console: Console) -> None:
    """Verify a bundle and print it. Raises BundleError."""
    manifest = bundles.load(folder).manifest
    size = sum(record.size for record in manifest.files.values())
    console.print(
        f"{manifest.name} {manifest.version}: {manifest.method}, {manifest.precision}, "
        f"{manifest.input.width}x{manifest.input.height}, teacher {manifest.teacher.architecture} "
        f"({manifest.teacher.weights}), {size / 1e6:.1f} MB, made {manifest.created:%Y-%m-%d %H:%M} UTC"
    )
    table = Table("Part class", "Training", "Held out", "Threshold", "False-reject rate")
    for part in manifest.part_classes:
        counts = (str(manifest.data.train[part.name]), str(manifest.data.held_out[part.name]))
        table.add_row(part.name, *counts, f"{part.threshold:.4g}", f"{part.false_reject_rate:.2%}")
    console.print(table)
    if manifest.quantization:
        used = manifest.quantization
        console.print(
            f"{used.mode.upper()}: {len(used.quantized_layers)} convolutions in INT8, {used.calibrator} ranges of "
            f"{used.images} images ({used.calibration})"
        )
    for name, figures in manifest.metrics.items():
        console.print(f"{name}: {figures}", highlight=False)


def lint_file(file: Path, form: str, console: Console) -> None:
    """Print all problems of a graph. Raises GraphError where there are any."""
    _choose("form", form, ("auto", *get_args(lint.Form)))
    model = _read_onnx(file)
    beside = (file.parent / MANIFEST).is_file()
    chosen: lint.Form = ("bundle" if beside else "tensorrt") if form == "auto" else form  # type: ignore[assignment]
    problems = lint.lint(model, chosen)
    for problem in problems:
        console.print(problem, highlight=False, markup=False)
    if problems:
        raise GraphError(f"{file} breaks {len(problems)} of TensorRT 8.5's rules (form: {chosen}).")
    console.print(f"{file} keeps TensorRT 8.5's rules (form: {chosen}).")


def export_bundle(folder: Path, out: Path, console: Console) -> None:
    """Write TensorRT's form. Raises BundleError or GraphError."""
    model = for_tensorrt(_read_onnx(bundles.load(folder).network.path))
    lint.require(model, "tensorrt")
    write_atomic(out, model.SerializeToString())
    console.print(f"Wrote {out}, {out.stat().st_size / 1e6:.1f} MB")


def _read_onnx(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except FileNotFoundError as error:
        raise GraphError(f"There is no file {path}; give an ONNX file.") from error
    except Exception as error:  # protobuf's DecodeError has moved between its versions.
        raise GraphError(f"{path} is no ONNX file ({error}).") from error


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
    _choose("device", asked, ("auto", "cpu", "cuda"))
    if asked == "cuda" and not torch.cuda.is_available():
        raise WeightsError("--device cuda: PyTorch finds no GPU here; say --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def _choose(option: str, value: str, allowed: object) -> None:
    names = list(allowed)  # type: ignore[call-overload]
    if value not in names:
        raise ArgumentError(f"--{option} {value!r} is not one of {', '.join(names)}.")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
