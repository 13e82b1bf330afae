"""The picture of an inspection, and its heatmap in the form that was asked for."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from engines import heatmap, images
from engines.scoring import Inspection
from service.ledger.records import InspectionRecord


@dataclass(frozen=True, slots=True)
class InspectedPicture:
    """What was inspected: the bytes that were sent, and the anomaly map float32 [h, w] that came of them."""

    record: InspectionRecord
    data: bytes
    anomaly_map: NDArray[np.float32]

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.data) + self.anomaly_map.nbytes


class HeatmapKind(StrEnum):
    """`overlay` colours the original picture, `layer` is these colours, `map` the anomaly map as 16-bit grey PNG."""

    NONE = "none"
    OVERLAY = "overlay"
    LAYER = "layer"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A PNG file; for a map, value = pixel / 65535 * scale."""

    png: bytes
    scale: float | None = None


def draw_heatmap(kind: HeatmapKind, data: bytes, inspection: Inspection, max_pixels: int) -> Heatmap | None:
    """The heatmap of an inspected picture; None for `none`.

    Raises ImageError where an overlay's picture cannot be decoded.
    """
    match kind:
        case HeatmapKind.NONE:
            return None
        case HeatmapKind.MAP:
            return Heatmap(*heatmap.encode_map(inspection.anomaly_map))
        case HeatmapKind.LAYER:
            return Heatmap(heatmap.encode_layer(inspection.anomaly_map, inspection.threshold))
        case HeatmapKind.OVERLAY:
            return draw_overlay(data, inspection.anomaly_map, inspection.threshold, max_pixels)


def draw_overlay(data: bytes, anomaly_map: NDArray[np.float32], threshold: float, max_pixels: int) -> Heatmap:
    """The colours of a map float32 [h, w] on its picture.

    It has the picture's upright size, reduced to `engines.heatmap.MAX_OVERLAY_SIDE` where it is larger.

    Raises:
        ImageError: the picture cannot be decoded at that size.
    """
    original = images.decode_original(data, heatmap.MAX_OVERLAY_SIDE, max_pixels)
    return Heatmap(heatmap.encode_png(heatmap.overlay(original, anomaly_map, threshold)))
