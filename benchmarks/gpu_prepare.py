"""Bundles of every method to measure, made by build-engines where they are missing."""

import subprocess
import sys
from pathlib import Path

from build_engines.methods import METHODS
from engines import bundle as bundles

PRECISIONS = ("fp16", "int8")
# Fewer steps than make a good student. Options given on the command line come later and win.
_FEW = ("--epochs", 2)
_SMALL: dict[str, tuple[object, ...]] = dict.fromkeys(METHODS, _FEW) | {"us": (*_FEW, "--option", "teacher_steps=50")}


def prepared(out: Path, data: Path | None, methods: list[str], options: list[str]) -> list[Path]:
    """Bundles of small students in `out`: what is missing is made."""
    parts = data or out / "parts"
    if not parts.exists():
        build("synth", parts, "--classes", 2, "--train", 40)
    made = []
    for method in methods:
        run = out / method
        build("train", "--data", parts, "--out", run, "--resume", "--method", method, *_SMALL.get(method, ()), *options)
        for precision in PRECISIONS:
            folder = out / f"{method}-{precision}"
            if not (folder / bundles.MANIFEST).is_file():
                build("quantize", run, "--out", folder, "--precision", precision)
            made.append(folder)
    return made


def build(*arguments: object) -> None:
    """Run build-engines, its output on standard error; where it fails, this program ends with its exit code."""
    command = [sys.executable, "-m", "build_engines.cli", *map(str, arguments)]
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(done.returncode)
