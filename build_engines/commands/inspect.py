"""`build-engines info`, `lint` and `export`."""

from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from build_engines.commands.options import choose
from engines import bundle as bundles
from engines import lint
from engines.bundle import MANIFEST, Manifest
from engines.errors import GraphError
from engines.files import write_atomic
from engines.onnx_graph import read_model
from engines.tensorrt_form import Form, for_tensorrt


def show_bundle(folder: Path, console: Console) -> None:
    """Verify a bundle and print it. Raises BundleError."""
    manifest = bundles.load(folder).manifest
    size = sum(record.size for record in manifest.files.values())
    console.print(
        f"{manifest.name} {manifest.version}: {manifest.method}, {manifest.precision}, "
        f"{_size(manifest)}, teacher {manifest.teacher.architecture} "
        f"({manifest.teacher.weights}), {size / 1e6:.1f} MB, made {manifest.created:%Y-%m-%d %H:%M} UTC"
    )
    table = Table("Part class", "Training", "Good scores", "Threshold", "False-reject rate", "Review above")
    for part in manifest.part_classes:
        counts = (str(manifest.data.train[part.name]), str(len(part.good_scores)))
        review = f"{part.review.threshold:.4g} ({part.review.rate:.2%})" if part.review else "–"
        table.add_row(part.name, *counts, f"{part.threshold:.4g}", f"{part.false_reject_rate:.2%}", review)
    console.print(table)
    if manifest.quantization:
        used = manifest.quantization
        kept = f", {len(used.float_layers)} in FP16" if used.float_layers else ""
        console.print(
            f"{used.mode.upper()}: {len(used.quantized_layers)} convolutions in INT8{kept}, {used.calibrator} ranges "
            f"of {used.images} images ({used.calibration}), equalization {used.equalization:g}"
        )
        if used.simulated:
            console.print(
                f"Simulated: weights of {used.weight_bits} and activations of {used.activation_bits} bits, stored and "
                "computed as INT8; 'packed' is the size that such weights would have."
            )
    for name, figures in manifest.metrics.items():
        console.print(f"{name}: {figures}", highlight=False)


def lint_file(file: Path, form: str, console: Console) -> None:
    """Print all problems of a graph. Raises GraphError where there are any."""
    choose("form", form, ("auto", *get_args(Form)))
    model = read_model(file)
    beside = (file.parent / MANIFEST).is_file()
    chosen: Form = ("bundle" if beside else "tensorrt") if form == "auto" else form  # type: ignore[assignment]
    problems = lint.lint(model, chosen)
    for problem in problems:
        console.print(problem, highlight=False, markup=False)
    if problems:
        raise GraphError(f"{file} breaks {len(problems)} of TensorRT 8.5's rules (form: {chosen}).")
    console.print(f"{file} keeps TensorRT 8.5's rules (form: {chosen}).")


def export_bundle(folder: Path, out: Path, console: Console) -> None:
    """Write TensorRT's form. Raises BundleError or GraphError."""
    model = for_tensorrt(read_model(bundles.load(folder).network.path))
    lint.require(model, "tensorrt")
    write_atomic(out, model.SerializeToString())
    console.print(f"Wrote {out}, {out.stat().st_size / 1e6:.1f} MB")


def _size(manifest: Manifest) -> str:
    height, width = manifest.image_size
    tiles = f" in {len(manifest.grid)} tiles of {manifest.input.width}x{manifest.input.height}" if manifest.grid else ""
    return f"{width}x{height}{tiles}"
