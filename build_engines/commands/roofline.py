"""`build-engines roofline`."""

import json as json_module
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rich import box
from rich.console import Console
from rich.table import Table

from build_engines.commands.options import ArgumentError, choose
from build_engines.methods import METHODS
from build_engines.networks.resnet import ARCHITECTURES
from build_engines.roofline import XAVIER_NX, Cost, cost, is_memory_bound, parts_of, seconds_of
from build_engines.roofline_graph import Arithmetic, Kernel, kernels_of
from build_engines.roofline_networks import EstimatedPrecision, classifier_graph, kernels_at, method_graph
from engines import bundle as bundles
from engines.files import write_atomic
from engines.onnx_graph import read_model

# MLPerf Inference 2.0, ResNet-50 in INT8 on the GPU of a Xavier NX: images at once, share of the peak that it reaches,
# and milliseconds an image, of which the second are of 739 images a second.
_MLPERF = ((1, 0.25, 2.43), (32, 0.45, 1e3 / 739))
_PIXELS = 16


@dataclass(frozen=True)
class Question:
    """What is estimated.

    Attributes:
        shares: of the peaks, in (0, 1].
        batch: images at once.
        layers: how many of the longest kernels are shown, of a bundle or one method.
    """

    shares: tuple[float, ...]
    batch: int = 1
    layers: int = 10


def estimate_bundle(folder: Path, asked: Question, json: Path | None, console: Console) -> None:
    """Print a bundle's cost part by part; write JSON where asked.

    Raises ArgumentError, BundleError, or GraphError where its network cannot be counted.
    """
    bundle = bundles.load(folder)
    manifest = bundle.manifest
    if manifest.precision == "bf16":
        raise ArgumentError(f"{folder} is in bf16, which a {XAVIER_NX.name} has not; give an fp16 or int8 bundle.")
    floats: Arithmetic = "fp16" if manifest.precision == "fp16" else "fp32"
    tiles = len(manifest.grid) if manifest.grid else 1
    kernels = kernels_of(read_model(bundle.network.path), asked.batch * tiles, floats)
    _finish(_one(f"{manifest.name}, {manifest.precision}", kernels, asked, console), asked.shares, json, console)


def estimate_methods(
    method: str | None,
    precision: str | None,
    teacher: str,
    image_size: int,
    asked: Question,
    json: Path | None,
    console: Console,
) -> None:
    """Print what untrained methods cost: one part by part, or all at all precisions. Raises ArgumentError."""
    choose("teacher", teacher, ARCHITECTURES)
    if image_size % _PIXELS:
        raise ArgumentError(f"--image-size {image_size} is no multiple of {_PIXELS}.")
    if precision is not None:
        choose("precision", precision, get_args(EstimatedPrecision))
    if method is not None:
        choose("method", method, METHODS)
        chosen: EstimatedPrecision = precision or "int8"  # type: ignore[assignment]
        kernels = kernels_at(method_graph(method, teacher, image_size), chosen, asked.batch)
        _finish(_one(f"{method}, {chosen}", kernels, asked, console), asked.shares, json, console)
        return
    table = _table(asked.shares, "method", "precision", title=f"{teacher}, {image_size} pixels, {_batch(asked)}")
    rows = []
    for name in METHODS:
        graph = method_graph(name, teacher, image_size)
        for kind in (precision,) if precision else get_args(EstimatedPrecision):
            found = cost(kernels_at(graph, kind, asked.batch), asked.shares, asked.batch)
            table.add_row(name, kind, *_figures(found))
            rows.append({"method": name, "precision": kind, **asdict(found)})
    console.print(table)
    figures = {"teacher": teacher, "image_size": image_size, "batch": asked.batch, "rows": rows}
    _finish(figures, asked.shares, json, console)


def estimate_mlperf(json: Path | None, console: Console) -> None:
    """Print what MLPerf's ResNet-50 costs by the same counting, beside what MLPerf measured."""
    graph = classifier_graph("resnet50")
    columns = ("batch", "share", "GOP", "MB", "kernels", "ms", "MLPerf ms", "ratio")
    table = Table(*columns, box=box.MARKDOWN, title="ResNet-50, 224 pixels, int8, an image")
    rows = []
    for batch, share, measured in _MLPERF:
        found = cost(kernels_at(graph, "int8", batch), (share,), batch)
        ratio = found.milliseconds[0] / measured
        table.add_row(str(batch), f"{share:.0%}", *_figures(found), f"{measured:.2f}", f"{ratio:.2f}")
        rows.append({"batch": batch, "share": share, "measured": measured, "ratio": ratio, **asdict(found)})
    console.print(table)
    _finish({"mlperf": rows}, tuple(share for _, share, _ in _MLPERF), json, console)


def _one(title: str, kernels: list[Kernel], asked: Question, console: Console) -> dict[str, Any]:
    table = _table(asked.shares, "part", title=f"{title}, {_batch(asked)}")
    for part, members in parts_of(kernels).items():
        table.add_row(part, *_figures(cost(members, asked.shares, asked.batch)))
    total = cost(kernels, asked.shares, asked.batch)
    table.add_row("all", *_figures(total))
    console.print(table)
    share = asked.shares[0]
    longest = sorted(kernels, key=lambda kernel: -seconds_of(kernel, share))[: asked.layers]
    if longest:
        console.print(_kernels(longest, share, asked.batch))
    return {"name": title, "batch": asked.batch, **asdict(total), "kernels": [asdict(kernel) for kernel in kernels]}


def _kernels(kernels: Sequence[Kernel], share: float, images: int) -> Table:
    columns = ("kernel", "GOP", "MB", f"µs at {share:.0%}", "bound by")
    table = Table(*columns, box=box.MARKDOWN, title="The longest, without launch")
    for kernel in kernels:
        bound = "memory" if is_memory_bound(kernel, share) else kernel.arithmetic
        taken = seconds_of(kernel, share) * 1e6 / images
        figures = (f"{kernel.operations / images / 1e9:.3f}", f"{kernel.bytes / images / 1e6:.2f}", f"{taken:.0f}")
        table.add_row(kernel.name.removeprefix("/method/"), *figures, bound)
    return table


def _batch(asked: Question) -> str:
    return f"batch {asked.batch}, an image"


def _table(shares: tuple[float, ...], *columns: str, title: str) -> Table:
    times = (f"ms at {share:.0%}" for share in shares)
    return Table(*columns, "GOP", "MB", "kernels", *times, box=box.MARKDOWN, title=title)


def _figures(found: Cost) -> list[str]:
    times = (f"{taken:.2f}" for taken in found.milliseconds)
    return [f"{found.operations / 1e9:.2f}", f"{found.bytes / 1e6:.1f}", str(found.kernels), *times]


def _finish(figures: dict[str, Any], shares: tuple[float, ...], json: Path | None, console: Console) -> None:
    console.print(
        f"An estimate for a {XAVIER_NX.name}, and no measurement; assumed: {XAVIER_NX.bandwidth / 1e9:g} GB/s, "
        f"{XAVIER_NX.launch * 1e6:g} µs a kernel."
    )
    if json is not None:
        record = {"estimate": True, "device": asdict(XAVIER_NX), "shares": shares, **figures}
        write_atomic(json, (json_module.dumps(record, indent=1) + "\n").encode())
