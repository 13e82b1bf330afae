"""From a finished run to a bundle: export, quantize, lint, then centroids and thresholds through the engine itself."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from safetensors.torch import load_file

from build_engines import lint, run
from build_engines.agreement import agreement
from build_engines.export import store_weights_as, to_onnx
from build_engines.libraries import versions
from build_engines.networks.inspection import InspectionNetwork
from build_engines.part_classes import centroid_of, false_reject_rate, held_out_metrics, part_class, run_all
from build_engines.quantization import equalization, qdq
from build_engines.quantization.calibration import calibrate, channel_ranges
from build_engines.split_images import SplitImages
from build_engines.training import method_of
from engines import bundle
from engines.backends import RawResult, open_backend
from engines.bundle import Bundle, Golden, Manifest, Network, Precision, Quantization
from engines.files import folder_atomic
from engines.heatmap import encode_png

# Two runtimes differ by up to 4 % of the map on the same INT8 graph; a wrong network differs by far more.
GOLDEN_TOLERANCE = 0.1


@dataclass(frozen=True)
class QuantizeSettings:
    """What `build-engines quantize` was asked.

    Attributes:
        precision: int8 quantizes teacher and student; fp16 and bf16 store and compute so where the device can.
        calibration: where calibration images come from.
        calibrator: how ranges are chosen, one of `CALIBRATORS`.
        images: number of calibration images.
        equalization: strength in [0, 1] of cross-layer equalization; 0 leaves it out.
        false_reject_rate: target in (0, 1); None for 1 %, or the smallest attainable where that is more.
    """

    precision: Precision
    calibration: str
    calibrator: str
    images: int
    equalization: float
    false_reject_rate: float | None


def package(run_folder: Path, settings: QuantizeSettings, out: Path, name: str, version: str) -> Bundle:
    """Write a bundle to `out`, atomically; an existing one is replaced.

    Raises:
        RunError: the run is missing or unfinished.
        DataError: the run's images are gone, unreadable or changed in number.
        ScoringError: the false-reject rate is not attainable with the held-out images.
        GraphError: the written graph breaks a rule of TensorRT 8.5.
    """
    record = run.load_finished(run_folder)
    # A rate that cannot be had is said before the work, not after it.
    for part in record.split:
        false_reject_rate(settings.false_reject_rate, len(part.held_out))
    images = SplitImages.read(record)
    method = method_of(record)
    method.student.load_state_dict(load_file(run_folder / run.STUDENT))
    network = InspectionNetwork(method)
    floating, image_input, outputs = to_onnx(network, record.settings.image_size)
    model, quantization = _quantize(floating, settings, images, record.settings.seed)
    lint.require(model, "bundle")
    with folder_atomic(out) as folder:
        onnx.save(model, folder / bundle.MODEL)
        graph = Network(folder / bundle.MODEL, settings.precision, image_input, outputs)
        backend = open_backend(graph, "openvino")
        held_out = {part: run_all(backend, pixels, f"Thresholds of {part}") for part, pixels in images.held_out.items()}
        classes = [
            part_class(
                part,
                centroid_of(backend, part, images.train[part]),
                result,
                false_reject_rate(settings.false_reject_rate, len(result.scores)),
            )
            for part, result in held_out.items()
        ]
        golden = _golden(folder, images, held_out)
        metrics: dict[str, object] = {"held_out": held_out_metrics(classes, held_out)}
        if settings.precision != "fp32":
            metrics["against_fp32"] = agreement(floating, graph, images, held_out, folder)
        manifest = Manifest(
            name=name,
            version=version,
            created=datetime.now(UTC),
            method=record.settings.method,
            precision=settings.precision,
            input=image_input,
            outputs=outputs,
            part_classes=classes,
            golden=golden,
            teacher=record.teacher,
            training=_training_record(record),
            data=record.data,
            quantization=quantization,
            metrics=metrics,
            libraries=versions(),
            files={},
        )
        bundle.save_manifest(folder, manifest)
    return bundle.load(out)


def _quantize(
    floating: ModelProto, settings: QuantizeSettings, images: SplitImages, seed: int
) -> tuple[ModelProto, Quantization | None]:
    if settings.precision != "int8":
        model = ModelProto()
        model.CopyFrom(floating)
        if settings.precision != "fp32":
            store_weights_as(model, TensorProto.FLOAT16 if settings.precision == "fp16" else TensorProto.BFLOAT16)
        return model, None
    placement = qdq.place(floating)
    pictures = images.calibration(settings.images, seed)
    if settings.equalization:
        ranges = channel_ranges(floating, placement.tensors, pictures)
        floating = equalization.equalize(floating, ranges, settings.equalization)
    scales = calibrate(floating, placement.tensors, pictures, settings.calibrator)
    return qdq.insert(floating, placement, scales), Quantization(
        mode="ptq",
        calibration=settings.calibration,
        calibrator=settings.calibrator,
        images=settings.images,
        equalization=settings.equalization,
        activation_scales={name: float(scale) for name, scale in scales.items()},
        quantized_layers=list(placement.layers),
        float_layers=[],
    )


def _golden(folder: Path, images: SplitImages, held_out: dict[str, RawResult]) -> Golden:
    """The first class's held-out image with the median score."""
    name, result = next(iter(held_out.items()))
    index = int(np.argsort(result.scores)[len(result.scores) // 2])
    (folder / bundle.GOLDEN).write_bytes(encode_png(images.held_out[name][index]))
    score = float(result.scores[index])
    return Golden(file=bundle.GOLDEN, part_class=name, score=score, tolerance=GOLDEN_TOLERANCE)


def _training_record(record: run.RunRecord) -> dict[str, object]:
    chosen = record.history[record.best_epoch - 1]
    return {
        **record.settings.model_dump(mode="json"),
        "best_epoch": record.best_epoch,
        "held_out_loss": chosen.held_out_loss,
        "seconds": round(record.seconds, 1),
        "device": record.device,
        "run_libraries": record.libraries,
    }
