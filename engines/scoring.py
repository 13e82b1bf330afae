"""From what the network gives to a verdict: part class, threshold, p-value, regions."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.bundle import PartClass
from engines.conformal import p_value
from engines.errors import UnknownPartClass

Verdict = Literal["pass", "review", "fail"]
PartClassSource = Literal["given", "recognised"]


@dataclass(frozen=True, slots=True)
class Region:
    """A suspicious place, in pixels of the original picture: box, area, and the map's largest value in it."""

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result for one part.

    Attributes:
        score: the network's image score; higher is worse.
        threshold: the part class's; `fail` means `score` > `threshold`.
        verdict: `review` leaves it to a person, where the part class has a second, lower threshold.
        p_value: share of good parts that score as high, in (0, 1].
        unknown_part: the picture is farther from its class's centroid than any held-out good part.
        regions: where the map kept the part from passing, largest peak first; empty when it passes.
        anomaly_map: float32 [h, w].
    """

    score: float
    threshold: float
    verdict: Verdict
    p_value: float
    part_class: str
    part_class_source: PartClassSource
    unknown_part: bool
    regions: tuple[Region, ...]
    anomaly_map: NDArray[np.float32]


class Judge:
    """Holds a bundle's part classes as arrays, and judges one network result at a time. Thread-safe."""

    def __init__(self, part_classes: list[PartClass]) -> None:
        self._classes = part_classes
        self._index = {part.name: i for i, part in enumerate(part_classes)}
        self._centroids = np.array([part.centroid for part in part_classes], dtype=np.float32)
        self._good_scores = [np.sort(np.array(part.good_scores, dtype=np.float32)) for part in part_classes]

    def index_of(self, name: str) -> int:
        """Raises UnknownPartClass where the bundle has no such class."""
        try:
            return self._index[name]
        except KeyError:
            known = ", ".join(self._index)
            raise UnknownPartClass(f"There is no part class {name[:64]!r} in this engine; it knows {known}.") from None

    def recognise(self, embedding: NDArray[np.float32]) -> str:
        """The part class whose centroid is nearest to an embedding [C]."""
        return self._classes[int(self._distances(embedding).argmin())].name

    def judge(
        self,
        anomaly_map: NDArray[np.float32],
        score: float,
        embedding: NDArray[np.float32],
        size: tuple[int, int],
        part_class: str | None = None,
    ) -> Inspection:
        """Judge one part.

        Args:
            anomaly_map: float32 [h, w].
            score: the network's image score.
            embedding: float32 [C], pooled teacher features.
            size: (width, height) of the original picture in pixels.
            part_class: the class the caller names; recognised from the embedding when None.

        Raises:
            UnknownPartClass: `part_class` is not in the bundle.
        """
        distances = self._distances(embedding)
        index = int(distances.argmin()) if part_class is None else self.index_of(part_class)
        part = self._classes[index]
        verdict: Verdict = "fail" if score > part.threshold else "review" if score > part.pass_limit else "pass"
        limit = part.threshold if verdict == "fail" else part.pass_limit
        return Inspection(
            score=score,
            threshold=part.threshold,
            verdict=verdict,
            p_value=p_value(self._good_scores[index], score),
            part_class=part.name,
            part_class_source="recognised" if part_class is None else "given",
            unknown_part=bool(distances[index] > part.max_distance),
            regions=()
            if verdict == "pass"
            else find_regions(anomaly_map, min(part.pixel_threshold, limit), limit, size),
            anomaly_map=anomaly_map,
        )

    def _distances(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.linalg.norm(self._centroids - embedding, axis=1))


def find_regions(
    anomaly_map: NDArray[np.float32], pixel_threshold: float, threshold: float, size: tuple[int, int]
) -> tuple[Region, ...]:
    """Connected components (8 neighbours) above `pixel_threshold` whose peak is above `threshold`.

    Two thresholds, so that a region shows the whole defect and good parts show none.

    Args:
        anomaly_map: float32 [h, w].
        size: (width, height) of the original picture; boxes are scaled to it and rounded outwards.
    """
    rows, columns = anomaly_map.shape
    scale_x, scale_y = size[0] / columns, size[1] / rows
    above = (anomaly_map > pixel_threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    regions = []
    for label in range(1, count):
        x, y, width, height, area = (int(v) for v in stats[label])
        window = np.s_[y : y + height, x : x + width]
        peak = float(anomaly_map[window][labels[window] == label].max())
        if peak <= threshold:
            continue
        left, top = int(x * scale_x), int(y * scale_y)
        right, bottom = int(np.ceil((x + width) * scale_x)), int(np.ceil((y + height) * scale_y))
        regions.append(Region(left, top, right - left, bottom - top, round(area * scale_x * scale_y), peak))
    return tuple(sorted(regions, key=lambda region: -region.peak))
