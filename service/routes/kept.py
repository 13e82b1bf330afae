"""GET /v1/inspections/{id}/image and /heatmap: what is kept of an inspection beside its record."""

from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Request, Response

from engines.heatmap import decode_map
from service.context import context_of
from service.errors import PictureNotKept
from service.picture_folder import KEPT_MAX_PIXELS
from service.pictures import draw_overlay
from service.routes.history import UNKNOWN

router = APIRouter(tags=["history"])
# What an id names never changes.
_CACHED = {"Cache-Control": "private, max-age=86400, immutable"}


class KeptHeatmap(StrEnum):
    """The anomaly map as 16-bit grey PNG, or its colours on the picture."""

    OVERLAY = "overlay"
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
async def image(request: Request, id: str) -> Response:
    context = context_of(request)

    def read() -> Response:
        record = context.history.entry(id).record
        picture = context.pictures.folder.read_picture(record.image_sha256)
        if picture is None:
            raise _not_kept(id)
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
        record = context.history.entry(id).record
        png = context.pictures.folder.read_map(id)
        if png is None:
            raise _not_kept(id)
        if kind is KeptHeatmap.OVERLAY:
            picture = context.pictures.folder.read_picture(record.image_sha256)
            if picture is None:
                raise _not_kept(id)
            png = draw_overlay(picture.data, decode_map(png), record.threshold, KEPT_MAX_PIXELS).png
        return Response(png, 200, _CACHED, "image/png")

    return await context.reading.run(read)


def _not_kept(inspection_id: str) -> PictureNotKept:
    return PictureNotKept(
        f"The picture of the inspection {inspection_id} is not kept; the setting pictures says which are, and "
        "pictures_days and pictures_quota_mb for how long."
    )
