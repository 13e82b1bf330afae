"""`build-engines quantize`."""

from pathlib import Path
from typing import get_args

from rich.console import Console

from build_engines.commands.inspect import show_bundle
from build_engines.commands.options import ArgumentError, check_bundle_folder, check_name, choose
from build_engines.finished_run import FinishedRun
from build_engines.packaging import package
from build_engines.quantization import defaults
from build_engines.quantization.calibration_images import SOURCES, is_source
from build_engines.quantization.calibrators import CALIBRATORS
from build_engines.quantization.integers import BITS
from build_engines.quantization.settings import MODES, QuantizeSettings
from engines.bundle import Precision
from engines.conformal import DEFAULT_FALSE_REJECT_RATE, images_needed

QAT_EPOCHS = 3


def quantize_run(
    source: Path | FinishedRun,
    out: Path,
    *,
    console: Console,
    precision: str = "int8",
    mode: str = "ptq",
    epochs: int | None = None,
    calibration: str = "train",
    calibrator: str = defaults.CALIBRATOR,
    images: int | None = None,
    equalization: float = defaults.EQUALIZATION,
    keep_fp16: str | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    false_reject: float | None = None,
    review_rate: float | None = None,
    name: str | None = None,
    version: str = "1",
) -> None:
    """Write a bundle from a run, and show it.

    Args:
        source: the run's folder; or the run itself, which keeps what several bundles share.
        epochs: of fine-tuning; None means 3 in mode qat and none in mode ptq, where it is QAT's control.
        images: None means 128, or all where there are fewer.
        false_reject: None means 1 %, or the smallest attainable.
        review_rate: None means a verdict of two states.
        name: None means the folder's.
    """
    choose("precision", precision, get_args(Precision))
    choose("mode", mode, MODES)
    choose_quantization(calibration, calibrator, weight_bits, activation_bits)
    if precision != "int8" and (keep_fp16 is not None or min(weight_bits, activation_bits) < 8):
        raise ArgumentError(f"--keep-fp16, --weight-bits and --activation-bits are for int8, not for {precision}.")
    if mode == "qat" and precision != "int8":
        raise ArgumentError(f"--mode qat is for int8, not for {precision}; say --mode ptq.")
    finished = FinishedRun(source) if isinstance(source, Path) else source
    named = name or out.resolve().name
    for option, value in (("name", named), ("version", version)):
        check_name(option, value)
    check_bundle_folder(out)
    settings = QuantizeSettings(
        precision=precision,  # type: ignore[arg-type]
        mode=mode,
        fine_tuning_epochs=(QAT_EPOCHS if mode == "qat" else 0) if epochs is None else epochs,
        calibration=calibration,
        calibrator=calibrator,
        images=images,
        equalization=equalization,
        keep_fp16=keep_fp16,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        false_reject_rate=false_reject,
        review_rate=review_rate,
    )
    bundle = package(finished, settings, out, named, version)
    show_bundle(bundle.folder, console)
    if false_reject is None:
        coarse = [part for part in bundle.manifest.part_classes if part.false_reject_rate > DEFAULT_FALSE_REJECT_RATE]
        if coarse:
            console.print(
                f"Too few held-out good images for a false-reject rate of 1 %: it is up to "
                f"{max(part.false_reject_rate for part in coarse):.1%} here; "
                f"{images_needed(DEFAULT_FALSE_REJECT_RATE)} held-out images a class would give 1 %."
            )


def choose_quantization(calibration: str, calibrator: str, weight_bits: int, activation_bits: int) -> None:
    """Raises ArgumentError where one of the values is not allowed."""
    if not is_source(calibration):
        raise ArgumentError(f"--calibration {calibration!r} is not one of {', '.join(SOURCES)}, nor a folder.")
    choose("calibrator", calibrator, CALIBRATORS)
    for option, bits in (("weight-bits", weight_bits), ("activation-bits", activation_bits)):
        choose(option, str(bits), map(str, BITS))
