"""The study's pages and figures, from its results."""

from collections.abc import Sequence
from pathlib import Path

from build_engines.study.answers import alike_classes, calibration_strategy, narrow_integers
from build_engines.study.choose import what_to_choose
from build_engines.study.detail_tables import all_engines, per_class
from build_engines.study.document import Section
from build_engines.study.estimate import duration
from build_engines.study.examples import example_pictures
from build_engines.study.inputs import Inputs
from build_engines.study.page import write_csv, write_html, write_json, write_markdown
from build_engines.study.paper_tables import paper_tables
from build_engines.study.plan import FP32, UNIFIED, Step
from build_engines.study.plots import plots
from build_engines.study.records import EngineResult
from build_engines.study.results import Results
from build_engines.study.statistics import RESAMPLES
from build_engines.study.words import listed, sentence, times

HTML, MARKDOWN, CSV, JSON = "index.html", "study.md", "results.csv", "results.json"


def write_report(folder: Path, results: Results, inputs: Inputs, with_images: bool) -> None:
    """Write the page, its Markdown, and the figures as CSV and JSON into `folder`.

    Args:
        with_images: lay example maps over their test pictures.
    """
    title = f"Which method, which precision: {times(len(inputs.classes), 'part class')}"
    sections = _sections(results, inputs, inputs.data if with_images else None)
    lead = _lead(results, inputs)
    write_html(folder / HTML, title, lead, sections)
    write_markdown(folder / MARKDOWN, title, lead, sections)
    rows = [row for step in results.plan for row in _rows(results, step)]
    write_csv(folder / CSV, rows)
    latency = results.latency
    write_json(
        folder / JSON,
        {
            "quick": results.quick,
            "inputs": {"images": inputs.images, "tests": inputs.tests, "digests": inputs.digests},
            "engines": rows,
            "latency": latency.model_dump(mode="json") if latency else None,
            "failures": dict(results.failures),
        },
    )


def _sections(results: Results, inputs: Inputs, pictures: Path | None) -> list[Section]:
    sections = [
        what_to_choose(results),
        Section("The papers' tables", _about_papers(), paper_tables(results)),
        Section("Accuracy, time and size", (), [per_class(results)], plots(results)),
        alike_classes(results),
        calibration_strategy(results),
        narrow_integers(results),
    ]
    if shown := example_pictures(results, pictures):
        text = (
            "The same test pictures for every method. Brightness grows with the root of the map over the class's "
            "threshold, which lies at 0.7 of full brightness, so that FP32 and INT8 compare."
        )
        sections.append(Section("Example maps, FP32 beside INT8", [text], pictures=shown))
    sections.append(Section("All engines", (), [all_engines(results)]))
    if results.failures:
        told = [f"{label}: {reason}" for label, reason in results.failures]
        sections.append(Section("What failed", [*told, "Calling the same command again tries these steps anew."]))
    return [*sections, Section("How it was measured", _how(results, inputs))]


def _lead(results: Results, inputs: Inputs) -> str:
    methods, classes = listed(method.upper() for method in results.measured), listed(inputs.classes)
    quick = "A quick study: few epochs, small images, so that its figures prove nothing. " if results.quick else ""
    return (
        f"{quick}{methods} on {classes}: {sum(inputs.images.values())} good pictures to train and calibrate, "
        f"{sum(inputs.tests.values())} to test. Brackets hold 95 % bootstrap intervals; a difference whose bracket "
        "holds zero is not shown by these pictures."
    )


def _about_papers() -> list[str]:
    return [
        "P1 is arXiv 2407.02968, P2 arXiv 2405.06467; both measured MVTec AD at 256 pixels with 15 classes. Their "
        "figures, in italics, stand beside those of these parts for the shape of the comparison: data and machines "
        "differ, so compare differences and ratios, not levels."
    ]


def _how(results: Results, inputs: Inputs) -> list[str]:
    counts = listed(f"{name} ({inputs.images[name]} good, {inputs.tests[name]} test)" for name in inputs.classes)
    trained = next((found for method in results.methods if (found := results.training(method))), None)
    teacher = f" Teacher {trained.teacher}." if trained else ""
    engines = (results.engine(method, FP32) for method in results.measured)
    backends = dict.fromkeys(found.backend for found in engines if found)
    paragraphs = [
        f"Classes and pictures: {counts}, {inputs.effort.image_size} pixels.{teacher} A share of the good pictures is "
        "held out for the choice of epoch and for thresholds; test pictures serve only to measure. One-class runs have "
        "the settings of the unified one, so that an epoch of theirs has fewer steps.",
        f"Accuracy is of the ONNX that was written, through {listed(backends)}, never of PyTorch. AUROC and PRO are "
        "means over classes.",
        f"Intervals: {RESAMPLES} bootstrap resamples of the test pictures, stratified by class and by good and "
        "defective, the same for both sides of a difference. They speak about other pictures like these, not about "
        "another training.",
    ]
    if latency := results.latency:
        others = "" if latency.others is None else f" Other processes kept {latency.others:.2f} cores busy meanwhile."
        paragraphs.append(
            f"Times: medians of {latency.repeats} calls at batch 1 on {latency.threads} threads of {latency.machine}, "
            f"all engines and PyTorch FP32 eager in turn in one process, after everything else.{others}"
        )
        versions = listed(f"{name} {version}" for name, version in latency.libraries.items())
        paragraphs.append(f"Versions: {versions}.")
    seconds = sum(record.seconds for record in results.records.values())
    paragraphs.append(sentence(f"all {len(results.records)} steps took {duration(seconds)}"))
    return paragraphs


def _rows(results: Results, step: Step) -> Sequence[dict[str, object]]:
    """One for each class of an engine."""
    record = results.records.get(step.id)
    if step.engine is None or record is None or not isinstance(record.result, EngineResult):
        return []
    engine, found = step.engine, record.result
    is_unified = step.scope == UNIFIED
    timing = results.timing(step.method, engine) if is_unified else None
    rows: list[dict[str, object]] = []
    for name, one in found.classes.items():
        base = results.engine(step.method, FP32)
        gain = None
        if is_unified and base is not None and engine != FP32:
            gain = results.difference(({name: one.as_scores()}, {name: base.classes[name].as_scores()}))
        rows.append(
            {
                "method": step.method,
                "run": step.scope,
                **engine.model_dump(mode="json"),
                "simulated": engine.simulated,
                "class": name,
                **one.metrics,
                "image_auroc_minus_fp32": gain.estimate if gain else None,
                "interval_low": gain.low if gain else None,
                "interval_high": gain.high if gain else None,
                "bytes": found.size,
                "bytes_packed": found.packed_size,
                "float_layers": " ".join(found.float_layers),
                "milliseconds": timing.median if timing else None,
                "milliseconds_p95": timing.p95 if timing else None,
                "time_ratio_to_pytorch": results.ratio(step.method, engine) if is_unified else None,
                "map_error": found.map_error,
            }
        )
    return rows
