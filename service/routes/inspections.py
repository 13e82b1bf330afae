"""POST /v1/inspections: an image in, a verdict out."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.answers import InspectionAnswer, inspection_json
from service.context import context_of
from service.deadlines import remaining_seconds
from service.exchange import exchange_of
from service.jobs import Result
from service.pictures import Heatmap, HeatmapKind
from service.problems import PROBLEM
from service.recorder import Asked
from service.texts import Printable
from service.timing import STAGES
from service.uploads import FIELD, read_image

REPEATED = "X-Unispect-Repeated"


class InspectionQuery(BaseModel):
    """The parameters of an inspection. A misspelt one is refused: it would silently change the result."""

    model_config = ConfigDict(extra="forbid")

    part_class: str | None = Field(None, max_length=64, description="The part's class; recognised when left out.")
    part_id: Printable | None = Field(
        None, min_length=1, max_length=128, description="The part's own name or number, given back in the answer."
    )
    station: Printable | None = Field(
        None, min_length=1, max_length=64, description="Where the image was taken, to find inspections by."
    )
    heatmap: HeatmapKind = Field(
        HeatmapKind.NONE,
        description="overlay: colours on the image; layer: these alone, transparent, to lay over it; "
        "map: the anomaly map as 16-bit grey PNG.",
    )


def parse_query(values: Mapping[str, object], where: str = "query") -> InspectionQuery:
    """What is asked by the parameters of a request. Raises RequestValidationError, which says `where` they stand."""
    try:
        return InspectionQuery.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": (where, *one["loc"])} for one in error.errors()]) from error


class InspectionRoute(APIRoute):
    """Documented by FastAPI, called without it: its solving of dependencies takes longer than all else in the route."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request, parse_query(dict(request.query_params)))
            return response

        return handle


router = APIRouter(route_class=InspectionRoute)
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
_PICTURE = {
    "description": "The verdict. With `Accept: image/png` the heatmap itself, the verdict in X-Unispect-* headers.",
    "content": {"image/png": _BINARY},
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {**PROBLEM, "description": "The body has too many bytes, or the image too many pixels."},
    415: {**PROBLEM, "description": "The body is no image, or is not announced as one."},
    422: {**PROBLEM, "description": "The image is broken, the part class unknown, or a parameter wrong."},
    503: {**PROBLEM, "description": "Not ready, too many inspections wait, or the ledger failed; see Retry-After."},
    504: {**PROBLEM, "description": "It waited longer than its deadline (X-Unispect-Deadline-Ms, or the service's)."},
}


@router.post(
    "/v1/inspections",
    response_model=InspectionAnswer,
    responses={200: _PICTURE, **PROBLEMS},
    openapi_extra={"requestBody": _REQUEST_BODY},
    summary="Inspect one image",
    tags=["inspection"],
)
async def inspect(request: Request, query: Annotated[InspectionQuery, Query()]) -> Response:
    context_of(request).check(remaining_seconds(request))
    data = await read_image(request)
    as_picture = _wants_picture(request.headers.get("accept", ""))
    kind = HeatmapKind.OVERLAY if as_picture and query.heatmap is HeatmapKind.NONE else query.heatmap
    id_, result = await carry_out(request, data, query, kind)
    if as_picture and result.heatmap is not None:
        return _picture(id_, result, result.heatmap)
    answer = inspection_json(result, id_, query.part_id, result.engine)
    return Response(answer, 200, _headers(result), "application/json")


async def carry_out(
    request: Request, data: bytes, query: InspectionQuery, kind: HeatmapKind, whole: bool = False
) -> tuple[str, Result]:
    """One inspection, whichever interface it came by: its id and its result, which is in the ledger.

    Args:
        whole: whether the anomaly map is needed.

    Raises what `Inspector.submit` and `Recorder.inspect` raise.
    """
    context = context_of(request)
    context.ledger.check()

    def inspect_it() -> asyncio.Future[Result]:
        return context.inspector.submit(data, query.part_class, kind, remaining_seconds(request))

    whole = whole or kind is not HeatmapKind.NONE
    asked = Asked(query.part_class, query.part_id, query.station, exchange_of(request.scope).client, whole)
    record, result = await context.recorder.inspect(data, asked, inspect_it)
    if context.tracing is not None:
        context.tracing.inspected(record, result)
    if not result.repeated:
        later, inspection = context.afterwards, result.inspection
        later.add(partial(context.metrics.observe, result))
        later.add(partial(context.pictures.offer, record, data, inspection.anomaly_map))
        later.add(partial(context.recent.add, record, data, inspection.anomaly_map))
        later.add(partial(context.live.publish, record))
        later.add(partial(context.drift.observe, result))
        later.add(partial(context.shadow.offer, record.id, data, query.part_class, inspection))
    return record.id, result


def _wants_picture(accept: str) -> bool:
    """Whether image/png is accepted, and named before JSON where both are."""
    picture, json = accept.find("image/png"), accept.find("application/json")
    return picture >= 0 and (json < 0 or picture < json)


def _picture(id_: str, result: Result, heatmap: Heatmap) -> Response:
    inspection = result.inspection
    headers = {
        "X-Unispect-Id": id_,
        "X-Unispect-Score": repr(inspection.score),
        "X-Unispect-Threshold": repr(inspection.threshold),
        "X-Unispect-Verdict": inspection.verdict,
        "X-Unispect-P-Value": repr(inspection.p_value),
        "X-Unispect-Part-Class": inspection.part_class,
        **_headers(result),
    }
    if heatmap.scale is not None:
        headers["X-Unispect-Heatmap-Scale"] = repr(heatmap.scale)
    return Response(heatmap.png, 200, headers, "image/png")


def _headers(result: Result) -> dict[str, str]:
    timing = ", ".join(f"{stage};dur={getattr(result.timing, stage) * 1000:.3f}" for stage in STAGES)
    return {"Server-Timing": timing} | ({REPEATED: "true"} if result.repeated else {})
