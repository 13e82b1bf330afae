"""The heatmap of an inspection, in the form that was asked for."""

from dataclasses import dataclass
from enum import StrEnum

from engines import heatmap, images
from engines.scoring import Inspection


class HeatmapKind(StrEnum):
    """`overlay` colours the original picture; `map` is the anomaly map itself as 16-bit grey PNG."""

    NONE = "none"
    OVERLAY = "overlay"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A PNG file; for a map, value = pixel / 65535 * scale."""

    png: bytes
    scale: float | None = None


def draw_heatmap(kind: HeatmapKind, data: bytes, inspection: Inspection, max_pixels: int) -> Heatmap | None:
    """The heatmap of an inspected picture; None for `none`.

    An overlay has the picture's upright size, reduced to `engines.heatmap.MAX_OVERLAY_SIDE` where it is larger.

    Raises:
        ImageError: the picture cannot be decoded at that size.
    """
    match kind:
        case HeatmapKind.NONE:
            return None
        case HeatmapKind.MAP:
            return Heatmap(*heatmap.encode_map(inspection.anomaly_map))
        case HeatmapKind.OVERLAY:
            original = images.decode_original(data, heatmap.MAX_OVERLAY_SIDE, max_pixels)
            return Heatmap(heatmap.encode_png(heatmap.overlay(original, inspection.anomaly_map, inspection.threshold)))
