"""Accuracy of an engine on the test images of a data folder, measured through backend and judge as in service."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from build_engines import metrics
from build_engines.data.folder import TestImage, find_tests, read_mask, require_readable
from build_engines.errors import DataError
from build_engines.metrics import ClassMetrics
from engines.detector import Detector
from engines.errors import ImageError
from engines.images import PartImage
from engines.scoring import Inspection

# Pixel metrics rank all pixels of a class, and large images have too many.
_LARGEST_MEASURED = 1024
MEANS = ("image_auroc", "pixel_auroc", "pro", "average_precision", "f1", "false_reject", "miss", "recognition")
REVIEWS = ("review_good", "review_defective")


@dataclass(frozen=True)
class Judged:
    """A test picture and what the engine said of it: given its class, and recognising the class itself."""

    test: TestImage
    inspection: Inspection
    recognised: str


@dataclass(frozen=True)
class Evaluation:
    """Metrics per class, and every judged picture."""

    classes: dict[str, ClassMetrics]
    judged: list[Judged]

    def mean(self) -> dict[str, float | None]:
        """Means over classes; of pixel metrics, over the classes that have masks."""
        return {name: _mean([getattr(found, name) for found in self.classes.values()]) for name in (*MEANS, *REVIEWS)}

    def as_json(self) -> dict[str, object]:
        """Figures for a file: per class, and means."""
        return {"classes": {name: asdict(found) for name, found in self.classes.items()}, "mean": self.mean()}


def evaluate(detector: Detector, data: Path, read: Callable[[Path], PartImage] | None = None) -> Evaluation:
    """Judge all test pictures of the engine's part classes that the folder has.

    Args:
        read: gives a picture at the engine's size, for callers that keep what was decoded; the detector when None.

    Raises:
        DataError: none of the engine's classes is there, a class without tests, or pictures that cannot be read.
    """
    known = [part.name for part in detector.bundle.manifest.part_classes]
    present = [name for name in known if (data / name).is_dir()]
    if not present:
        raise DataError(f"{data} has none of the engine's part classes ({', '.join(known)}); give their data folder.")
    tests = find_tests(data, present)
    judged = _judge_all(detector, tests, read or (lambda path: detector.decode(path.read_bytes())))
    height, width = (min(side, _LARGEST_MEASURED) for side in detector.bundle.manifest.image_size)
    classes = {
        name: _measure([one for one in judged if one.test.part_class == name], height, width) for name in present
    }
    return Evaluation(classes, judged)


def _judge_all(detector: Detector, tests: list[TestImage], read: Callable[[Path], PartImage]) -> list[Judged]:
    judged, broken = [], []
    for test in track(tests, "Test images"):
        try:
            image = read(test.path)
        except ImageError as error:
            broken.append(f"{test.path}: {error}")
            continue
        result = detector.infer([image])
        recognised = detector.judge_classes.recognise(result.embeddings[0])
        judged.append(Judged(test, detector.judge(result, 0, image, test.part_class), recognised))
    require_readable(broken, "test images")
    return judged


def _measure(judged: list[Judged], height: int, width: int) -> ClassMetrics:
    labels = np.array([not one.test.is_good for one in judged])
    scores = np.array([one.inspection.score for one in judged])
    verdicts = np.array([one.inspection.verdict for one in judged])
    right = np.array([one.recognised == one.test.part_class for one in judged])
    unknown = np.array([one.inspection.unknown_part for one in judged])
    pixel_auroc, pro = _measure_maps(judged, height, width)
    return ClassMetrics(
        good=int((~labels).sum()),
        defective=int(labels.sum()),
        image_auroc=metrics.image_auroc(labels, scores),
        pixel_auroc=pixel_auroc,
        pro=pro,
        average_precision=metrics.image_average_precision(labels, scores),
        f1=metrics.best_f1(labels, scores),
        false_reject=float((verdicts[~labels] == "fail").mean()),
        miss=float((verdicts[labels] == "pass").mean()),
        review_good=float((verdicts[~labels] == "review").mean()),
        review_defective=float((verdicts[labels] == "review").mean()),
        recognition=float(right.mean()),
        unknown_good=float(unknown[~labels].mean()),
    )


def _measure_maps(judged: list[Judged], height: int, width: int) -> tuple[float | None, float | None]:
    """Pixel metrics at that size, over good pictures and defective ones with a mask."""
    masked = [one for one in judged if one.test.is_good or one.test.mask is not None]
    if all(one.test.is_good for one in masked):
        return None, None
    maps = np.stack([_enlarge(one.inspection.anomaly_map, height, width) for one in masked])
    masks = np.stack(
        [
            np.zeros((height, width), bool) if one.test.mask is None else read_mask(one.test.mask, height, width)
            for one in masked
        ]
    )
    if not masks.any():
        return None, None
    return metrics.pixel_auroc(maps, masks), metrics.per_region_overlap(maps, list(masks))


def _enlarge(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
