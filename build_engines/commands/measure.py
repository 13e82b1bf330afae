"""`build-engines evaluate` and `benchmark`."""

import json as json_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from build_engines.benchmark import benchmark
from build_engines.commands.compile import open_detector
from build_engines.errors import DataError
from build_engines.evaluation import REVIEWS, evaluate
from build_engines.report import write_page
from engines import bundle as bundles
from engines.files import write_atomic


def evaluate_bundle(
    folder: Path,
    data: Path,
    backend: str,
    json: Path | None,
    page: Path | None,
    threads: int,
    record: bool,
    console: Console,
) -> None:
    """Print the accuracy table; write JSON, page and the bundle's record where asked."""
    detector = open_detector(folder, backend, threads, console)
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
    if any(part.review for part in detector.bundle.manifest.part_classes):
        columns |= dict(zip(REVIEWS, ("Review, good", "Review, defective"), strict=True))
    table = Table("Part class", *columns.values())
    for name, found in evaluation.classes.items():
        table.add_row(name, *(_number(getattr(found, column)) for column in columns))
    mean = evaluation.mean()
    table.add_section()
    table.add_row("mean", *(_number(mean[column]) for column in columns))
    console.print(table)
    if record:
        metrics = {**detector.bundle.manifest.metrics, "test": {"backend": detector.backend.name, **mean}}
        bundles.save_manifest(folder, detector.bundle.manifest.model_copy(update={"metrics": metrics}))
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
    """Print the speed table; write JSON where asked."""
    detector = open_detector(folder, backend, threads, console)
    picture = image or detector.bundle.golden_path
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
    if figures.device_memory_bytes is not None:
        console.print(
            f"The engine took {figures.device_memory_bytes / 1e6:.0f} MB of the GPU's memory when it was opened."
        )
    if json is not None:
        write_atomic(json, (json_module.dumps(figures.as_json(), indent=1) + "\n").encode())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
