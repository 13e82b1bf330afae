"""From a finished run to a bundle: export, quantize, lint, then centroids and thresholds through the engine itself."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from rich.progress import track
from safetensors.torch import load_file
from scipy.stats import spearmanr

from build_engines import lint, run
from build_engines.data.folder import read_images
from build_engines.errors import DataError
from build_engines.export import store_weights_as, to_onnx
from build_engines.libraries import versions
from build_engines.networks.inspection import InspectionNetwork
from build_engines.quantization import equalization, qdq
from build_engines.quantization.calibration import calibrate, channel_ranges
from build_engines.training import build_method
from engines import bundle, conformal
from engines.backends import Backend, RawResult, open_backend
from engines.bundle import Bundle, Golden, Manifest, Network, PartClass, Precision, Quantization
from engines.files import folder_atomic
from engines.heatmap import encode_png

# Two runtimes differ by up to 4 % of the map on the same INT8 graph; a wrong network differs by far more.
GOLDEN_TOLERANCE = 0.1
# Regions end where only one in a thousand places of good parts lies above.
_PIXEL_QUANTILE = 0.999
_BATCH = 8


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
    calibration: str = "train"
    calibrator: str = "minmax"
    images: int = 128
    equalization: float = equalization.STRENGTH
    false_reject_rate: float | None = None


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
        _rate(settings, len(part.held_out), part.name)
    images = _Images.read(record)
    method = build_method(record)
    method.student.load_state_dict(load_file(run_folder / run.STUDENT))
    network = InspectionNetwork(method)
    floating, image_input, outputs = to_onnx(network, record.settings.image_size)
    model, quantization = _quantize(floating, settings, images, record.settings.seed)
    lint.require(model, "bundle")
    with folder_atomic(out) as folder:
        onnx.save(model, folder / bundle.MODEL)
        graph = Network(folder / bundle.MODEL, settings.precision, image_input, outputs)
        backend = open_backend(graph, "openvino")
        held_out = {part: _run(backend, pixels, f"Thresholds of {part}") for part, pixels in images.held_out.items()}
        classes = [
            _part_class(part, _centroid(backend, part, images.train[part]), result, settings)
            for part, result in held_out.items()
        ]
        golden = _golden(folder, images, held_out)
        metrics: dict[str, object] = {"held_out": _held_out_metrics(classes, held_out)}
        if settings.precision != "fp32":
            metrics["against_fp32"] = _agreement(floating, graph, images, held_out, folder)
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


@dataclass(frozen=True)
class _Images:
    """Good images by class, uint8 [N, H, W, 3]."""

    train: dict[str, NDArray[np.uint8]]
    held_out: dict[str, NDArray[np.uint8]]

    @classmethod
    def read(cls, record: run.RunRecord) -> "_Images":
        size = record.settings.image_size
        paths = [record.data_folder / name for part in record.split for name in (*part.train, *part.held_out)]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing}, an image of the run, is gone; put the data folder back where it was.")
        pixels = iter(read_images(paths, size, size, "good images"))
        train, held_out = {}, {}
        for part in record.split:
            train[part.name] = np.stack([next(pixels) for _ in part.train])
            held_out[part.name] = np.stack([next(pixels) for _ in part.held_out])
        return cls(train, held_out)

    def calibration(self, count: int, seed: int) -> NDArray[np.uint8]:
        """`count` training images, drawn evenly over classes."""
        available = sum(len(pixels) for pixels in self.train.values())
        if count > available:
            raise DataError(f"Calibration asks for {count} training images and the run has {available}; ask for fewer.")
        generator = np.random.default_rng(seed)
        shuffled = [list(generator.permutation(pixels)) for pixels in self.train.values()]
        drawn: list[NDArray[np.uint8]] = []
        while len(drawn) < count:
            drawn += [pixels.pop() for pixels in shuffled if pixels]
        return np.stack(drawn[:count])


def _quantize(
    floating: ModelProto, settings: QuantizeSettings, images: _Images, seed: int
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


def _run(backend: Backend, pixels: NDArray[np.uint8], what: str) -> RawResult:
    starts = range(0, len(pixels), _BATCH)
    results = [backend.run(pixels[start : start + _BATCH]) for start in track(starts, what)]
    return RawResult(
        np.concatenate([result.maps for result in results]),
        np.concatenate([result.scores for result in results]),
        np.concatenate([result.embeddings for result in results]),
    )


def _centroid(backend: Backend, part: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(_run(backend, pixels, f"Centroid of {part}").embeddings.mean(axis=0))


def _part_class(name: str, centroid: NDArray[np.float32], held_out: RawResult, settings: QuantizeSettings) -> PartClass:
    rate = _rate(settings, len(held_out.scores), name)
    limit = conformal.threshold(held_out.scores, rate)
    return PartClass(
        name=name,
        centroid=centroid.tolist(),
        max_distance=float(np.linalg.norm(held_out.embeddings - centroid, axis=1).max()),
        good_scores=np.sort(held_out.scores).tolist(),
        false_reject_rate=rate,
        threshold=limit,
        pixel_threshold=min(limit, float(np.quantile(held_out.maps, _PIXEL_QUANTILE))),
    )


def _rate(settings: QuantizeSettings, held_out: int, name: str) -> float:
    attainable = conformal.attainable_rate(held_out)
    if settings.false_reject_rate is None:
        return max(conformal.DEFAULT_FALSE_REJECT_RATE, attainable)
    conformal.threshold(np.zeros(held_out), settings.false_reject_rate)
    return settings.false_reject_rate


def _golden(folder: Path, images: _Images, held_out: dict[str, RawResult]) -> Golden:
    """The first class's held-out image with the median score."""
    name, result = next(iter(held_out.items()))
    index = int(np.argsort(result.scores)[len(result.scores) // 2])
    (folder / bundle.GOLDEN).write_bytes(encode_png(images.held_out[name][index]))
    score = float(result.scores[index])
    return Golden(file=bundle.GOLDEN, part_class=name, score=score, tolerance=GOLDEN_TOLERANCE)


def _held_out_metrics(classes: list[PartClass], held_out: dict[str, RawResult]) -> dict[str, float]:
    centroids = np.array([part.centroid for part in classes])
    right = [
        np.linalg.norm(result.embeddings[:, None] - centroids, axis=2).argmin(axis=1) == index
        for index, result in enumerate(held_out.values())
    ]
    return {"images": sum(map(len, right)), "class_recognition": float(np.concatenate(right).mean())}


def _agreement(
    floating: ModelProto, graph: Network, images: _Images, held_out: dict[str, RawResult], folder: Path
) -> dict[str, float]:
    """How the written engine differs from the float32 one on held-out good images."""
    path = folder / "reference.onnx"
    onnx.save(floating, path)
    reference = open_backend(Network(path, "fp32", graph.input, graph.outputs), "openvino")
    expected = {part: _run(reference, pixels, f"FP32 scores of {part}") for part, pixels in images.held_out.items()}
    size = path.stat().st_size
    path.unlink()
    orders = [spearmanr(expected[part].scores, held_out[part].scores).statistic for part in held_out]
    ratios = np.concatenate([held_out[part].scores / np.maximum(expected[part].scores, 1e-12) for part in held_out])
    errors = [
        np.abs(expected[part].maps - held_out[part].maps).mean() / expected[part].maps.mean() for part in held_out
    ]
    return {
        "score_order_spearman": float(np.mean(orders)),
        "score_ratio_median": float(np.median(ratios)),
        "map_error_relative": float(np.mean(errors)),
        "size_ratio": graph.path.stat().st_size / size,
    }


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
