"""GET /v1/inspections/{id}/image and /heatmap: what is kept of an inspection beside its record."""

from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray

from engines.heatmap import MAX_OVERLAY_SIDE, decode_map, encode_layer, encode_map, encode_png
from engines.images import decode_original
from service.context import Context, context_of
from service.errors import PictureNotKept
from service.picture_folder import KEPT_MAX_PIXELS, KeptPicture, describe_picture
from service.pictures import draw_overlay
from service.routes.history import UNKNOWN

router = APIRouter(tags=["history"])
# What an id names never changes.
_CACHED = {"Cache-Control": "private, max-age=86400, immutable"}
_NOT_IN_BROWSERS = "image/tiff"


class KeptHeatmap(StrEnum):
    """The anomaly map as 16-bit grey PNG, its colours on the picture, or these alone."""

    OVERLAY = "overlay"
    LAYER = "layer"
    MAP = "map"


def _responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}},
        404: {**UNKNOWN[404], "description": "There is no such inspection, or its picture is not kept."},
    }


@router.get(
    "/v1/inspections/{id}/image",
    response_class=Response,
    responses=_responses("image/*"),
    summary="The file that was inspected",
)
async def image(
    request: Request,
    id: str,
    browser: Annotated[bool, Query(description="A TIFF as PNG, which browsers show.")] = False,
) -> Response:
    context = context_of(request)

    def read() -> Response:
        picture = _picture(context, id)
        if browser and picture.media_type == _NOT_IN_BROWSERS:
            shown = encode_png(decode_original(picture.data, MAX_OVERLAY_SIDE, KEPT_MAX_PIXELS))
            return Response(shown, 200, _CACHED, "image/png")
        return Response(picture.data, 200, _CACHED, picture.media_type)

    return await context.reading.run(read)


@router.get(
    "/v1/inspections/{id}/heatmap",
    response_class=Response,
    responses=_responses("image/png"),
    summary="Where the part is suspicious, as PNG",
)
async def heatmap(request: Request, id: str, kind: KeptHeatmap = KeptHeatmap.OVERLAY) -> Response:
    context = context_of(request)

    def read() -> Response:
        anomaly_map, threshold = _map(context, id)
        match kind:
            case KeptHeatmap.MAP:
                png, _ = encode_map(anomaly_map)
            case KeptHeatmap.LAYER:
                png = encode_layer(anomaly_map, threshold)
            case KeptHeatmap.OVERLAY:
                png = draw_overlay(_picture(context, id).data, anomaly_map, threshold, KEPT_MAX_PIXELS).png
        return Response(png, 200, _CACHED, "image/png")

    return await context.reading.run(read)


def _picture(context: Context, inspection_id: str) -> KeptPicture:
    if recent := context.recent.find(inspection_id):
        return describe_picture(recent.data)
    record = context.history.entry(inspection_id).record
    picture = context.pictures.folder.read_picture(record.image_sha256)
    if picture is None:
        raise _not_kept(inspection_id)
    return picture


def _map(context: Context, inspection_id: str) -> tuple[NDArray[np.float32], float]:
    """The anomaly map float32 [h, w] of an inspection, and its threshold."""
    if recent := context.recent.find(inspection_id):
        return recent.anomaly_map, recent.record.threshold
    record = context.history.entry(inspection_id).record
    png = context.pictures.folder.read_map(inspection_id)
    if png is None:
        raise _not_kept(inspection_id)
    return decode_map(png), record.threshold


def _not_kept(inspection_id: str) -> PictureNotKept:
    return PictureNotKept(
        f"The picture of the inspection {inspection_id} is not kept; the setting pictures says which are, and "
        "pictures_days and pictures_quota_mb for how long."
    )
