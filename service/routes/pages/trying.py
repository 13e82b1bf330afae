"""/try: a person gives an image and sees what comes of it."""

import base64

from fastapi import APIRouter, Request, Response

from engines.errors import UnispectError
from service.context import Context, context_of
from service.deadlines import remaining_seconds
from service.jobs import Result
from service.pictures import HeatmapKind
from service.routes.inspections import carry_out, parse_query
from service.routes.pages.live import review_threshold
from service.templates import render, render_refused
from service.uploads import read_images

router = APIRouter(include_in_schema=False)
_TEMPLATE = "try.html"
# By which what was tried is told from what the line made.
STATION = "try"


@router.get("/try")
async def trying(request: Request) -> Response:
    return render(request, _TEMPLATE, **_shared(context_of(request)), result=None)


@router.post("/try")
async def tried(request: Request) -> Response:
    """Without script: the page with the result in it."""
    context = context_of(request)
    try:
        context.check(remaining_seconds(request))
        (upload,) = await read_images(request, 1)
        query = parse_query({"part_class": upload.part_class, "station": STATION}, "form")
        _, result = await carry_out(request, upload.data, query, HeatmapKind.OVERLAY)
    except UnispectError as error:
        return render_refused(request, _TEMPLATE, error, **_shared(context), result=None)
    return render(
        request,
        _TEMPLATE,
        **_shared(context, upload.part_class),
        result=result,
        shown=_shown(result),
        review_threshold=review_threshold(context, result.engine, result.inspection.part_class),
    )


def _shared(context: Context, chosen: str | None = None) -> dict[str, object]:
    parts = [part.name for part in context.inspector.bundle.manifest.part_classes]
    return {"part_classes": parts, "chosen": chosen}


def _shown(result: Result) -> str | None:
    """The image under its heatmap, within the page: who may try sees nothing of what is kept."""
    if result.heatmap is None:
        return None
    return f"data:image/png;base64,{base64.b64encode(result.heatmap.png).decode()}"
