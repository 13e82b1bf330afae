"""POST /v1/inspections: an image in, a verdict out."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from service.answers import InspectionAnswer, inspection_json
from service.context import context_of
from service.ids import new_id
from service.inspector import Result
from service.pictures import Heatmap, HeatmapKind
from service.problems import MEDIA_TYPE, Problem
from service.timing import STAGES, Timing
from service.uploads import FIELD, read_image


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


class InspectionQuery(BaseModel):
    """The parameters of an inspection. A misspelt one is refused: it would silently change the result."""

    model_config = ConfigDict(extra="forbid")

    part_class: str | None = Field(None, max_length=64, description="The part's class; recognised when left out.")
    part_id: Annotated[str, AfterValidator(_printable)] | None = Field(
        None, min_length=1, max_length=128, description="The part's own name or number, given back in the answer."
    )
    heatmap: HeatmapKind = Field(
        HeatmapKind.NONE, description="overlay: colours on the image; map: the anomaly map as 16-bit grey PNG."
    )


class _DirectRoute(APIRoute):
    """Documented by FastAPI, called without it: its solving of dependencies takes longer than all else in the route."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            try:
                query = InspectionQuery.model_validate(dict(request.query_params))
            except ValidationError as error:
                raise RequestValidationError(
                    [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
                ) from error
            return await inspect(request, query)

        return handle


router = APIRouter(route_class=_DirectRoute)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "A JPEG, PNG, BMP, WebP or TIFF file: raw (fastest), or as a form's field.",
    "content": {
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _BINARY["schema"]}}
        },
    },
}
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The verdict. With `Accept: image/png` the heatmap itself, the verdict in X-Unispect-* headers.",
        "content": {"image/png": _BINARY},
    },
    413: {**_PROBLEM, "description": "The body has too many bytes, or the image too many pixels."},
    415: {**_PROBLEM, "description": "The body is no image, or is not announced as one."},
    422: {**_PROBLEM, "description": "The image is broken, the part class unknown, or a parameter wrong."},
    503: {**_PROBLEM, "description": "Not ready, or too many inspections are waiting; see Retry-After."},
}


@router.post(
    "/v1/inspections",
    response_model=InspectionAnswer,
    responses=_RESPONSES,
    openapi_extra={"requestBody": _REQUEST_BODY},
    summary="Inspect one image",
    tags=["inspection"],
)
async def inspect(request: Request, query: Annotated[InspectionQuery, Query()]) -> Response:
    context = context_of(request)
    context.inspector.check_capacity()
    data = await read_image(request)
    as_picture = _wants_picture(request.headers.get("accept", ""))
    kind = HeatmapKind.OVERLAY if as_picture and query.heatmap is HeatmapKind.NONE else query.heatmap
    result = await context.inspector.inspect(data, query.part_class, kind)
    # After the answer: it waits for nothing that is not in it.
    asyncio.get_running_loop().call_soon(context.metrics.observe, result)
    if as_picture and result.heatmap is not None:
        return _picture(result, result.heatmap)
    answer = inspection_json(result, new_id(), query.part_id, context.inspector.engine.name)
    return Response(answer, 200, _server_timing(result.timing), "application/json")


def _wants_picture(accept: str) -> bool:
    """Whether image/png is accepted, and named before JSON where both are."""
    picture, json = accept.find("image/png"), accept.find("application/json")
    return picture >= 0 and (json < 0 or picture < json)


def _picture(result: Result, heatmap: Heatmap) -> Response:
    inspection = result.inspection
    headers = {
        "X-Unispect-Id": new_id(),
        "X-Unispect-Score": repr(inspection.score),
        "X-Unispect-Threshold": repr(inspection.threshold),
        "X-Unispect-Verdict": inspection.verdict,
        "X-Unispect-P-Value": repr(inspection.p_value),
        "X-Unispect-Part-Class": inspection.part_class,
        **_server_timing(result.timing),
    }
    if heatmap.scale is not None:
        headers["X-Unispect-Heatmap-Scale"] = repr(heatmap.scale)
    return Response(heatmap.png, 200, headers, "image/png")


def _server_timing(timing: Timing) -> dict[str, str]:
    return {"Server-Timing": ", ".join(f"{stage};dur={getattr(timing, stage) * 1000:.3f}" for stage in STAGES)}
