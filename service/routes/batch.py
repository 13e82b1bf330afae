"""POST /v1/inspections:batch: several images in one form, their results in its order."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from engines.errors import UnispectError
from service.answers import BatchAnswer, inspection_json
from service.context import context_of
from service.deadlines import remaining_seconds
from service.errors import QueueFull
from service.exchange import exchange_of
from service.jobs import Result
from service.problems import problem_of
from service.routes.inspections import PROBLEMS, InspectionQuery, InspectionRoute, carry_out, parse_query
from service.uploads import FIELD, Upload, read_images

SOME_REFUSED = "some-images-refused"
# Keeps decoding threads and the engine's batches busy; more would only take the queue from single requests.
_AT_ONCE = 16

router = APIRouter(route_class=InspectionRoute)
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {
                    FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}},
                    "part_id": {"type": "array", "items": {"type": "string"}},
                    "part_class": {"type": "array", "items": {"type": "string"}},
                },
            },
            "encoding": {FIELD: {"style": "form", "explode": True}},
        }
    },
    "description": f"The images in fields '{FIELD}'; where given, fields 'part_id' and 'part_class': one for each "
    "image, in the same order, empty for none.",
}


@router.post(
    "/v1/inspections:batch",
    response_model=BatchAnswer,
    responses=PROBLEMS,
    openapi_extra={"requestBody": _BODY},
    summary="Inspect several images",
    tags=["inspection"],
)
async def inspect_batch(request: Request, query: Annotated[InspectionQuery, Query()]) -> Response:
    context = context_of(request)
    context.check(remaining_seconds(request))
    common = query.model_dump(exclude_none=True)
    images = [
        (upload.data, parse_query(common | _own(upload), "form"))
        for upload in await read_images(request, context.settings.max_images)
    ]
    outcomes = await inspect_all(request, images)
    results: list[dict[str, object]] = []
    refused = 0
    for (_, asked), outcome in zip(images, outcomes, strict=True):
        if isinstance(outcome, UnispectError):
            refused += 1
            problem = problem_of(request.scope, outcome).model_dump()
            results.append({"inspection": None, "problem": problem, "repeated": False})
        else:
            id_, result = outcome
            inspection = orjson.Fragment(inspection_json(result, id_, asked.part_id, result.engine))
            results.append({"inspection": inspection, "problem": None, "repeated": result.repeated})
    if refused:
        exchange = exchange_of(request.scope)
        exchange.outcome, exchange.detail = SOME_REFUSED, f"{refused} of {len(images)} images were refused."
    return Response(orjson.dumps({"refused": refused, "results": results}), media_type="application/json")


async def inspect_all(
    request: Request, images: Sequence[tuple[bytes, InspectionQuery]], whole: bool = False
) -> list[tuple[str, Result] | UnispectError]:
    """Id and result of each image, or the error that it was refused with, in order.

    A few are in the service at a time, and fewer where its queue is full of others.

    Args:
        whole: whether the anomaly maps are needed.
    """
    if (quotas := context_of(request).quotas) is not None:
        quotas.charge_more(exchange_of(request.scope).client, len(images) - 1)
    outcomes: dict[int, tuple[str, Result] | UnispectError] = {}
    waiting = deque(enumerate(images))
    active = min(_AT_ONCE, len(images))

    async def work() -> None:
        nonlocal active
        while waiting:
            index, (data, query) = waiting.popleft()
            try:
                outcomes[index] = await carry_out(request, data, query, query.heatmap, whole)
            except QueueFull as error:
                if active > 1:
                    # The others of this request will have room; this one makes it.
                    waiting.appendleft((index, (data, query)))
                    break
                outcomes[index] = error
            except UnispectError as error:
                outcomes[index] = error
        active -= 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(active):
            tasks.create_task(work())
    return [outcomes[index] for index in range(len(images))]


def _own(upload: Upload) -> dict[str, str]:
    texts = {"part_id": upload.part_id, "part_class": upload.part_class}
    return {name: text for name, text in texts.items() if text is not None}
