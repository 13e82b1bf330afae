"""What `build-engines quantize` was asked."""

from dataclasses import dataclass

from build_engines.quantization import defaults
from engines.bundle import Precision

MODES = ("ptq", "qat")


@dataclass(frozen=True)
class QuantizeSettings:
    """How a bundle is made from a run.

    Attributes:
        precision: int8 quantizes teacher and student; fp16 and bf16 store and compute so where the device can.
        mode: one of `MODES`; `qat` fine-tunes the student with the integers' rounding in the loop.
        fine_tuning_epochs: of QAT; in mode ptq, of the float model before it is quantized, QAT's control.
        calibration: where calibration images come from, one of `SOURCES` or a folder.
        calibrator: how ranges are chosen, one of `CALIBRATORS`.
        images: number of calibration images; None for 128, or all where there are fewer.
        equalization: strength in [0, 1] of cross-layer equalization; 0 leaves it out.
        keep_fp16: blocks that stay in floating point: names joined by commas, or `auto:N` for the N most harmful.
        weight_bits, activation_bits: of `BITS`; below 8 they are simulated.
        false_reject_rate: target in (0, 1); None for 1 %, or the smallest attainable where that is more.
        review_rate: target in (0, 1) of the second threshold of a three-state verdict; None for two states.
    """

    precision: Precision
    mode: str = "ptq"
    fine_tuning_epochs: int = 0
    calibration: str = "train"
    calibrator: str = defaults.CALIBRATOR
    images: int | None = None
    equalization: float = defaults.EQUALIZATION
    keep_fp16: str | None = None
    weight_bits: int = 8
    activation_bits: int = 8
    false_reject_rate: float | None = None
    review_rate: float | None = None

    @property
    def control_epochs(self) -> int:
        """Of fine-tuning before anything is quantized."""
        return 0 if self.mode == "qat" else self.fine_tuning_epochs
