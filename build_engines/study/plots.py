"""Plots as SVG that takes the page's colours, light or dark."""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from build_engines.study.document import Plot
from build_engines.study.plan import FP32, INT8, Engine
from build_engines.study.results import Results

# Okabe & Ito's colours, told apart by all eyes and on both grounds.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
# Stands for the page's text colour until the SVG is written.
_TEXT = "#010203"
_MARKERS = {"fp32": "o", "fp16": "s", "bf16": "D", "int8": "^"}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _TEXT,
    "grid.alpha": 0.15,
    "font.size": 11,
}


def plots(results: Results) -> list[Plot]:
    """Bars per class, and accuracy against latency and against size; without those that have nothing to show."""
    shown = [Plot("per-class", "Image AUROC per class, unified", _draw("per-class", 4.2, lambda a: _bars(a, results)))]
    if results.latency is not None:
        caption = "Mean image AUROC against time a picture, unified engines"
        shown.append(Plot("latency", caption, _draw("latency", 4.8, lambda axes: _latency(axes, results))))
    caption = "Mean image AUROC against size on disk, unified engines; hollow: simulated"
    return [*shown, Plot("size", caption, _draw("size", 4.8, lambda axes: _size(axes, results)))]


def _bars(axes: Axes, results: Results) -> None:
    """For each class and method FP32 beside INT8."""
    width = 0.8 / (2 * len(results.measured))
    places = np.arange(len(results.classes))
    lowest = 1.0
    for number, method in enumerate(results.measured):
        for half, engine in enumerate((FP32, INT8)):
            found = results.engine(method, engine)
            if found is None:
                continue
            heights = [found.classes[name].metrics["image_auroc"] or 0.0 for name in results.classes]
            lowest = min(lowest, *heights)
            offset = (2 * number + half + 0.5) * width - 0.4
            axes.bar(
                places + offset,
                heights,
                width * 0.92,
                color=_colour(results, method),
                alpha=1.0 if engine == FP32 else 0.55,
                label=f"{method.upper()} {engine.precision.upper()}",
            )
    axes.set_xticks(places, results.classes)
    axes.set(ylabel="image AUROC", ylim=(max(0.0, np.floor(lowest * 10) / 10 - 0.1), 1.0))
    axes.grid(axis="y")
    axes.legend(frameon=False, ncols=len(results.measured), loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _latency(axes: Axes, results: Results) -> None:
    for method in results.measured:
        timed = [(engine, results.timing(method, engine)) for engine, _ in results.of_method(method)]
        own = [
            (engine, timing.median)
            for engine, timing in timed
            if timing and (engine in (FP32, INT8) or not _scales(engine))
        ]
        _scatter(axes, results, method, own)
        eager = results.eager(method)
        auroc = results.mean(results.engine(method, FP32), "image_auroc")
        if eager and auroc is not None:
            axes.scatter(eager.median, auroc, s=60, marker="x", color=_colour(results, method))
    axes.set(xlabel="ms a picture, batch 1 (×: PyTorch FP32)", ylabel="mean image AUROC", xscale="log")
    _legend(axes, results)


def _size(axes: Axes, results: Results) -> None:
    for method in results.measured:
        # Calibration changes no size: of its engines the default stands for all.
        engines = [(engine, found) for engine, found in results.of_method(method) if engine.is_default_calibration]
        sizes = [(engine, (found.packed_size or found.size) / 1e6) for engine, found in engines]
        _scatter(axes, results, method, sizes)
    axes.set(xlabel="MB on disk", ylabel="mean image AUROC", xscale="log")
    _legend(axes, results)


def _scatter(axes: Axes, results: Results, method: str, points: list[tuple[Engine, float]]) -> None:
    colour = _colour(results, method)
    for engine, x in points:
        y = results.mean(results.engine(method, engine), "image_auroc") or 0.0
        face = "none" if engine.simulated else colour
        axes.scatter(x, y, s=60, marker=_MARKERS[engine.precision], facecolors=face, edgecolors=colour, alpha=0.8)


def _legend(axes: Axes, results: Results) -> None:
    plain = mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(plain)
    axes.grid()
    for method in results.measured:
        axes.scatter([], [], s=60, color=_colour(results, method), label=method.upper())
    for precision, marker in _MARKERS.items():
        axes.scatter([], [], s=60, color=_TEXT, marker=marker, label=precision.upper())
    axes.legend(
        frameon=False, ncols=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1.0, handletextpad=0.2
    )


def _scales(engine: Engine) -> bool:
    """Whether an INT8 engine differs from the default one in scales alone, so that it has its speed."""
    return engine.precision == "int8" and engine.keep_fp16 is None


def _colour(results: Results, method: str) -> str:
    return _COLOURS[results.methods.index(method) % len(_COLOURS)]


def _draw(name: str, height: float, draw: Callable[[Axes], None]) -> str:
    # The salt makes ids that are the same in every run and differ between plots of one page.
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(10, height), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT, "currentColor")
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
