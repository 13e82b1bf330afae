"""Example maps as pictures: FP32 beside INT8, alone or over the test picture."""

from base64 import b64decode, b64encode
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from build_engines.study.document import Picture
from build_engines.study.records import Example, ExampleMap, ExamplesResult
from build_engines.study.results import Results
from engines.heatmap import encode_jpeg, overlay
from engines.images import decode_original

_SIDE = 192
_GAP = 6


def example_pictures(results: Results, data: Path | None) -> list[Picture]:
    """FP32 and INT8 map of each example, side by side.

    Args:
        data: the test pictures' folder, to show each picture first and lay the maps over it; None for the maps alone.
    """
    shown = []
    for method in results.methods:
        record = results.records.get(f"{method}/unified/examples")
        if record and isinstance(record.result, ExamplesResult):
            shown += [_picture(method, example, data) for example in record.result.examples]
    return shown


def _picture(method: str, example: Example, data: Path | None) -> Picture:
    ground = _ground(data / example.picture if data else None)
    views = [_view(found, ground, data is not None) for found in (example.fp32, example.int8)]
    parts = [ground, *views] if data else views
    gap = np.full((_SIDE, _GAP, 3), 128, np.uint8)
    spaced = [part for view in parts for part in (view, gap)][:-1]
    scores = (f"{found.score / max(found.threshold, 1e-12):.2f}" for found in (example.fp32, example.int8))
    order = "picture, FP32, INT8" if data else "FP32, INT8"
    caption = (
        f"{method.upper()}, {example.part_class}, {example.defect}: {order}; score over threshold {', '.join(scores)}"
    )
    source = "data:image/jpeg;base64," + b64encode(encode_jpeg(np.concatenate(spaced, axis=1), 85)).decode()
    return Picture(source, caption)


def _view(found: ExampleMap, ground: NDArray[np.uint8], over: bool) -> NDArray[np.uint8]:
    levels = cv2.imdecode(np.frombuffer(b64decode(found.png), np.uint8), cv2.IMREAD_UNCHANGED)
    anomaly_map = np.asarray(levels, np.float32) / 65535.0 * found.scale
    if over:
        return overlay(ground, anomaly_map, found.threshold)
    # The overlay's scale.
    strength = np.sqrt(np.clip(anomaly_map / (2.0 * max(found.threshold, 1e-12)), 0.0, 1.0)).astype(np.float32)
    grey = np.asarray(cv2.resize(strength, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR) * 255, np.uint8)
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[:, :, ::-1], np.uint8)


def _ground(path: Path | None) -> NDArray[np.uint8]:
    if path is None:
        return np.zeros((_SIDE, _SIDE, 3), np.uint8)
    image = decode_original(path.read_bytes(), _SIDE)
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
