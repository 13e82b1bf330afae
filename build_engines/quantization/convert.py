"""From a run's float graph and calibration images to the INT8 graph that is written, with fine-tuning where asked."""

from dataclasses import asdict

from onnx import ModelProto, TensorProto

from build_engines.export import store_weights_as
from build_engines.finished_run import Calibration, FinishedRun, IntegerGraph
from build_engines.quantization import blocks, sensitivity
from build_engines.quantization.settings import QuantizeSettings
from engines.bundle import Quantization

_THRESHOLDS = ("false_reject_rate", "review_rate")


def quantize(source: FinishedRun, settings: QuantizeSettings) -> tuple[ModelProto, Quantization]:
    """The INT8 graph and how it was made.

    Raises:
        QuantizationError: blocks to keep that the network does not have.
        DataError: too few calibration images.
    """
    kept = _kept_layers(source, settings)
    calibration = source.calibration(settings)
    written = (
        _fine_tuned(source, calibration, settings, kept)
        if settings.mode == "qat"
        else calibration.quantized(settings, kept)
    )
    if kept:
        store_weights_as(written.model, TensorProto.FLOAT16, kept)
    return written.model, Quantization(
        mode=settings.mode,
        fine_tuning_epochs=settings.fine_tuning_epochs,
        calibration=settings.calibration,
        calibrator=settings.calibrator,
        images=calibration.images,
        equalization=settings.equalization,
        weight_bits=settings.weight_bits,
        activation_bits=settings.activation_bits,
        simulated=min(settings.weight_bits, settings.activation_bits) < 8,
        activation_scales={name: float(scale) for name, scale in written.scales.items()},
        quantized_layers=list(written.placement.layers),
        float_layers=kept,
    )


def _fine_tuned(
    source: FinishedRun, calibration: Calibration, settings: QuantizeSettings, kept: list[str]
) -> IntegerGraph:
    rounding = calibration.rounding(settings, kept)
    asked = {name: value for name, value in asdict(settings).items() if name not in _THRESHOLDS}
    model = source.fine_tuned(calibration.model, settings.fine_tuning_epochs, {**asked, "kept": kept}, rounding)
    return calibration.integers(model, rounding)


def _kept_layers(source: FinishedRun, settings: QuantizeSettings) -> list[str]:
    if settings.keep_fp16 is None:
        return []
    known = blocks.blocks_of(source.exported.model)
    count = blocks.automatic(settings.keep_fp16, known)
    if count is None:
        names = blocks.named_blocks(settings.keep_fp16, known)
    else:
        names = sensitivity.measure(source, settings).ranking[:count]
    return blocks.layers_of(names, known)
