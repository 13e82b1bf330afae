"""Accuracy on a data folder: one unified engine in FP32 and INT8, beside one-class engines with the same settings.

    python benchmarks/accuracy.py DATA OUT [-- options of build-engines train]

Runs what is missing in OUT, and prints the tables as Markdown. Interrupt it and call it again to go on.
"""

import json
import subprocess
import sys
from pathlib import Path

from build_engines import run
from build_engines.data.folder import find_parts
from build_engines.evaluation import MEANS


def main() -> None:
    """See above."""
    arguments = sys.argv[1:]
    options = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    data, out = Path(arguments[0]), Path(arguments[1])
    classes = [part.name for part in find_parts(data)]
    train(data, out / "unified", options)
    for name in classes:
        train(data, out / name, ["--classes", name, *options])
    unified = {precision: measure(data, out, "unified", precision) for precision in ("fp32", "int8")}
    alone = {name: measure(data, out, name, "fp32") for name in classes}
    for precision, found in unified.items():
        print(f"\nUnified, {precision}, trained in {seconds(out / 'unified'):.0f} s\n")
        header(MEANS)
        for name in classes:
            row(name, [found["classes"][name][metric] for metric in MEANS])
        row("mean", [found["mean"][metric] for metric in MEANS])
    print(f"\nImage AUROC, FP32; one-class engines trained in {sum(seconds(out / name) for name in classes):.0f} s\n")
    header(("unified", "one-class", "difference"))
    pairs = [
        (found["image_auroc"], alone[name]["classes"][name]["image_auroc"])
        for name, found in unified["fp32"]["classes"].items()
    ]
    for name, (both, one) in zip(classes, pairs, strict=True):
        row(name, [both, one, both - one])
    means = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    row("mean", [*means, means[0] - means[1]])


def train(data: Path, folder: Path, options: list[str]) -> None:
    """Train, or go on, or do nothing where it is done."""
    if not (folder / run.RECORD).exists() or not run.load(folder).is_finished:
        call("train", "--data", data, "--out", folder, "--resume", *options)


def measure(data: Path, out: Path, name: str, precision: str) -> dict[str, dict[str, dict[str, float]]]:
    """Quantize and evaluate a run, or read what was measured."""
    engine, figures = out / f"{name}-{precision}", out / f"{name}-{precision}.json"
    if not figures.exists():
        call("quantize", out / name, "--precision", precision, "--out", engine)
        call("evaluate", engine, "--data", data, "--json", figures)
    return dict(json.loads(figures.read_text()))


def call(*arguments: object) -> None:
    """Run build-engines; its output goes to standard error."""
    command = [sys.executable, "-m", "build_engines.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def seconds(folder: Path) -> float:
    """How long a run trained."""
    return run.load(folder).seconds


def header(columns: tuple[str, ...]) -> None:
    print("| class | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")


def row(name: str, values: list[float | None]) -> None:
    print(f"| {name} | " + " | ".join("–" if value is None else f"{value:.3f}" for value in values) + " |")


if __name__ == "__main__":
    main()
