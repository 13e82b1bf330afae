"""`build-engines quantize`."""

from pathlib import Path
from typing import get_args

from rich.console import Console

from build_engines import run
from build_engines.commands.inspect import show_bundle
from build_engines.commands.options import ArgumentError, choose
from build_engines.packaging import QuantizeSettings, package
from build_engines.quantization.calibration import CALIBRATORS
from build_engines.quantization.equalization import STRENGTH
from engines import bundle as bundles
from engines.bundle import MANIFEST, Precision
from engines.conformal import DEFAULT_FALSE_REJECT_RATE, images_needed

CALIBRATION_IMAGES = 128


def quantize_run(
    run_folder: Path,
    out: Path,
    *,
    console: Console,
    precision: str = "int8",
    mode: str = "ptq",
    calibration: str = "train",
    calibrator: str = "minmax",
    images: int | None = None,
    equalization: float = STRENGTH,
    false_reject: float | None = None,
    name: str | None = None,
    version: str = "1",
) -> None:
    """Write a bundle from a run, and show it.

    None of `images` means 128 or all; of `false_reject`, 1 % or the smallest attainable; of `name`, the folder's.
    """
    choose("precision", precision, get_args(Precision))
    choose("mode", mode, ("ptq",))
    choose("calibration", calibration, ("train",))
    choose("calibrator", calibrator, CALIBRATORS)
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
        equalization=equalization,
        false_reject_rate=false_reject,
    )
    bundle = package(run_folder, settings, out, named, version)
    show_bundle(bundle.folder, console)
    if false_reject is None:
        coarse = [part for part in bundle.manifest.part_classes if part.false_reject_rate > DEFAULT_FALSE_REJECT_RATE]
        if coarse:
            console.print(
                f"Too few held-out good images for a false-reject rate of 1 %: it is up to "
                f"{max(part.false_reject_rate for part in coarse):.1%} here; "
                f"{images_needed(DEFAULT_FALSE_REJECT_RATE)} held-out images a class would give 1 %."
            )
