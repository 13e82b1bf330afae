"""From a finished run to a bundle: export, quantize, lint, then centroids and thresholds through the engine itself."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from build_engines import run
from build_engines.agreement import differences
from build_engines.export import store_weights_as
from build_engines.finished_run import FinishedRun
from build_engines.libraries import versions
from build_engines.part_classes import (
    centroid_of,
    false_reject_rate,
    held_out_metrics,
    part_class,
    review_of,
    run_all,
)
from build_engines.quantization.convert import quantize
from build_engines.quantization.settings import QuantizeSettings
from build_engines.quantization.size import packed_bytes
from build_engines.split_images import SplitImages
from engines import bundle, lint
from engines.backends import RawResult, open_backend
from engines.bundle import Bundle, Golden, Manifest, Quantization
from engines.files import folder_atomic
from engines.heatmap import encode_png
from engines.onnx_graph import copied

# Two runtimes differ by up to 4 % of the map on the same INT8 graph; a wrong network differs by far more.
GOLDEN_TOLERANCE = 0.1


def package(source: FinishedRun, settings: QuantizeSettings, out: Path, name: str, version: str) -> Bundle:
    """Write a bundle to `out`, atomically; an existing one is replaced.

    Raises:
        DataError: the run's images are gone, unreadable or changed, or there are too few for calibration.
        QuantizationError: blocks to keep that the network does not have.
        ScoringError: the false-reject or review rate is not attainable with the held-out images.
        GraphError: the written graph breaks a rule of TensorRT 8.5.
    """
    record = source.record
    # A rate that cannot be had is said before the work, not after it.
    for part in record.split:
        rate = false_reject_rate(settings.false_reject_rate, len(part.held_out))
        review_of(np.zeros(len(part.held_out)), rate, settings.review_rate)
    model, quantization = _convert(source, settings)
    lint.require(model, "bundle")
    images = source.images
    with folder_atomic(out) as folder:
        onnx.save(model, folder / bundle.MODEL)
        backend = open_backend(source.network(folder / bundle.MODEL, settings.precision), "openvino")
        held_out = {part: run_all(backend, pixels, f"Thresholds of {part}") for part, pixels in images.held_out.items()}
        classes = [
            part_class(
                part,
                centroid_of(backend, part, images.train[part]),
                result,
                false_reject_rate(settings.false_reject_rate, len(result.scores)),
                settings.review_rate,
            )
            for part, result in held_out.items()
        ]
        golden = _golden(folder, images, held_out)
        metrics: dict[str, object] = {"held_out": held_out_metrics(classes, held_out)}
        if settings.precision != "fp32":
            size_ratio = model.ByteSize() / source.exported.model.ByteSize()
            agreement = differences(source.reference, held_out).model_dump()
            metrics["against_fp32"] = {**agreement, "size_ratio": size_ratio}
        if quantization is not None and quantization.simulated:
            metrics["packed"] = {"model_bytes": packed_bytes(model, quantization.weight_bits)}
        manifest = Manifest(
            name=name,
            version=version,
            created=datetime.now(UTC),
            method=record.settings.method,
            precision=settings.precision,
            input=source.exported.input,
            outputs=source.exported.outputs,
            tiling=record.settings.tiling,
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


def _convert(source: FinishedRun, settings: QuantizeSettings) -> tuple[ModelProto, Quantization | None]:
    """The graph at the precision asked for."""
    if settings.precision == "int8":
        return quantize(source, settings)
    model = copied(source.floating(settings.fine_tuning_epochs))
    if settings.precision != "fp32":
        store_weights_as(model, TensorProto.FLOAT16 if settings.precision == "fp16" else TensorProto.BFLOAT16)
    return model, None


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
