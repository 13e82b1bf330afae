"""Draws the pictures of docs/concepts.md from what `make demo` left: a run, its engine, and its parts."""

import argparse
import io
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from build_engines.data.folder import TestImage, find_tests
from build_engines.evaluation import Judged, evaluate
from build_engines.finished_run import FinishedRun
from build_engines.methods.features import distance_maps
from build_engines.networks.normalize import normalised_batches
from build_engines.run import CURVE
from engines import bundle as bundles
from engines.bundle import PartClass
from engines.conformal import images_needed, p_value
from engines.detector import Detector
from engines.errors import UnispectError
from engines.files import write_atomic
from engines.heatmap import MAX_OVERLAY_SIDE, overlay
from engines.images import decode, decode_original
from service.drift import ALARM, DriftTest

# Okabe & Ito's colours, told apart by all eyes.
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#777777"
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "font.size": 11,
    "svg.hashsalt": "unispect",
}
_SEED = 0
_RATES = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_PARTS, _CHANGE, _HIGHER = 1000, 500, 1.5


def main() -> int:
    """Draw all of them. Returns 0, or 2 with one sentence where the demo is not whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that `make demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the pictures: %(default)s")
    arguments = parser.parse_args()
    try:
        _draw_all(arguments.demo, arguments.out)
    except (UnispectError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _draw_all(demo: Path, out: Path) -> None:
    detector = Detector.open(bundles.load(demo / "engines" / "demo"))
    judged = evaluate(detector, demo / "parts").judged
    part_classes = detector.bundle.manifest.part_classes
    shown = _clearest(judged, part_classes[0].name)
    good = next(test for test in find_tests(demo / "parts", [part_classes[0].name]) if test.is_good)
    concepts = out / "concepts"
    with mpl.rc_context(_STYLE):
        _save(concepts / "teacher-student.png", _teacher_student(FinishedRun(demo / "run"), [good, shown.test]))
        _save(concepts / "threshold.svg", _threshold(part_classes, judged))
        _save(concepts / "images-needed.svg", _images_needed())
        _save(concepts / "drift.svg", _drift(part_classes[0]))
        _save(concepts / "regions.png", _regions(shown))
    write_atomic(out / "curve.png", (demo / "run" / CURVE).read_bytes())


def _clearest(judged: list[Judged], part_class: str) -> Judged:
    """The defective part of a class that fails by most."""
    defects = [one for one in judged if one.test.part_class == part_class and not one.test.is_good]
    return max(defects, key=lambda one: one.inspection.score)


def _teacher_student(run: FinishedRun, tests: list[TestImage]) -> Figure:
    """A row for each picture: itself, the distance of each stage, and the map."""
    size = run.record.settings.input_size
    pixels = np.stack([_resized(test, size) for test in tests])
    method = run.method.eval()
    with torch.no_grad():
        (images,) = normalised_batches(pixels, torch.device("cpu"))
        targets = method.targets(images)
        features = method.imitate(images, targets)
        stages = [stage[:, 0].numpy() for stage in distance_maps(targets, features)]
        found = method.inspect(targets, features)[0].numpy()
    columns = [*stages, found]
    titles = ["picture", *(f"stage {index}" for index in range(1, len(stages) + 1)), "anomaly map"]
    figure = Figure(figsize=(2.1 * len(titles), 2.2 * len(tests)), layout="constrained")
    for row, axes in enumerate(figure.subplots(len(tests), len(titles), squeeze=False)):
        axes[0].imshow(pixels[row])
        axes[0].set_ylabel("good" if tests[row].is_good else tests[row].defect)
        for axis, maps in zip(axes[1:], columns, strict=True):
            axis.imshow(maps[row], cmap="inferno", vmin=0, vmax=float(maps.max()))
        for axis, title in zip(axes, titles, strict=True):
            _bare(axis, title if row == 0 else "")
    return figure


def _threshold(part_classes: list[PartClass], judged: list[Judged]) -> Figure:
    """For each class its scores over its threshold, those of one kind in a row."""
    generator = np.random.default_rng(_SEED)
    figure = Figure(figsize=(9, 1.5 * len(part_classes)), layout="constrained")
    all_axes = figure.subplots(len(part_classes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, part in zip(all_axes, part_classes, strict=True):
        of_class = [one for one in judged if one.test.part_class == part.name]
        kinds = (
            ("held-out good", _GREY, part.good_scores),
            ("good, test", _BLUE, [one.inspection.score for one in of_class if one.test.is_good]),
            ("defective, test", _ORANGE, [one.inspection.score for one in of_class if not one.test.is_good]),
        )
        for row, (_, colour, scores) in enumerate(kinds):
            ratios = np.array(scores) / part.threshold
            heights = -row + generator.uniform(-0.25, 0.25, len(ratios))
            axes.scatter(ratios, heights, s=16, color=colour, alpha=0.7, linewidths=0)
        axes.axvline(1.0, color="black", linewidth=1)
        axes.set(xscale="log", yticks=[0, -1, -2], yticklabels=[name for name, _, _ in kinds])
        axes.set_title(f"{part.name}: {part.false_reject_rate:.1%} of good parts may fail", loc="left", fontsize=11)
        axes.grid(axis="x")
    all_axes[-1].set_xlabel("score / threshold")
    ticks = (0.25, 0.5, 1, 2, 4, 8)
    all_axes[-1].set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    all_axes[-1].minorticks_off()
    return figure


def _images_needed() -> Figure:
    """Held-out images over the rate that they can promise."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    counts = [images_needed(rate) for rate in _RATES]
    axes.plot(_RATES, counts, color=_BLUE, marker="o")
    for rate, count in zip(_RATES, counts, strict=True):
        axes.annotate(f"{count}", (rate, count), xytext=(6, 4), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="false-reject rate", ylabel="held-out good images of a class")
    axes.set_xticks(_RATES, [f"{rate:.1%}" for rate in _RATES], minor=False)
    axes.minorticks_off()
    axes.grid()
    return figure


def _drift(part: PartClass) -> Figure:
    """The drift test's statistic over parts whose scores are drawn from the held-out ones, and then grow."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    scores = np.sort(np.array(part.good_scores, np.float32))
    for label, growth, colour in (("as in training", 1.0, _BLUE), ("scores half as high again", _HIGHER, _ORANGE)):
        generator = np.random.default_rng(_SEED)
        test, statistics = DriftTest(part), []
        for index in range(_PARTS):
            # Between neighbours, so that no two parts are the same.
            score = float(np.quantile(scores, generator.random())) * (growth if index >= _CHANGE else 1.0)
            test.observe(p_value(scores, score))
            statistics.append(test.statistic)
        axes.plot(range(1, _PARTS + 1), statistics, color=colour, label=label)
    axes.axhline(ALARM, color="black", linewidth=1)
    axes.annotate("alarm", (4, ALARM), xytext=(0, 4), textcoords="offset points")
    axes.axvline(_CHANGE, color=_GREY, linestyle="--", linewidth=1)
    axes.set(xlabel="parts inspected", ylabel="statistic")
    axes.set_ylim(0, 1.55 * ALARM)
    axes.legend(loc="upper left")
    axes.grid()
    return figure


def _regions(shown: Judged) -> Figure:
    """A defective part, its heatmap, and its regions."""
    picture = decode_original(shown.test.path.read_bytes(), MAX_OVERLAY_SIDE)
    inspection = shown.inspection
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    heat = overlay(picture, inspection.anomaly_map, inspection.threshold)
    columns = ((picture, f"{shown.test.part_class}, {shown.test.defect}"), (heat, "heatmap"), (picture, "regions"))
    for axis, (image, title) in zip(axes, columns, strict=True):
        axis.imshow(image)
        _bare(axis, title)
    for region in inspection.regions:
        box = Rectangle((region.x, region.y), region.width, region.height, fill=False, edgecolor=_ORANGE, linewidth=2)
        axes[2].add_patch(box)
    return figure


def _resized(test: TestImage, size: int) -> NDArray[np.uint8]:
    return decode(test.path.read_bytes(), size, size).pixels


def _bare(axes: Axes, title: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _save(path: Path, figure: Figure) -> None:
    """As SVG or PNG, by the name; the same bytes from the same picture."""
    buffer = io.BytesIO()
    kind = path.suffix[1:]
    figure.savefig(buffer, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
    write_atomic(path, buffer.getvalue())


if __name__ == "__main__":
    sys.exit(main())
