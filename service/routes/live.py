"""GET /v1/inspections/stream: inspections as they are committed, as server-sent events."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.sse import EventSourceResponse

from service.context import context_of
from service.event_stream import InspectionStream
from service.history_answers import RecordedAnswer, record_json

router = APIRouter(tags=["history"])
# Told from the ledger after a long interruption; who missed more reads /v1/inspections.
_MOST_MISSED = 1000
_ID = re.compile("[0-9a-f]{32}")


@router.get(
    "/v1/inspections/stream",
    response_class=Response,
    responses={
        200: {
            "description": "An event `inspection` for each, its data of the model RecordedAnswer in one line. After an "
            "interruption a browser gives Last-Event-ID and is told what it missed; after a long one, or after a "
            "restart of the service, some come twice.",
            "content": {EventSourceResponse.media_type: {"schema": RecordedAnswer.model_json_schema()}},
        }
    },
    summary="Inspections as they happen",
)
async def stream(request: Request, last_event_id: Annotated[str | None, Header()] = None) -> Response:
    context = context_of(request)
    seen = last_event_id if last_event_id and _ID.fullmatch(last_event_id) else None
    reader = context.live.join(seen)
    missed = reader.missed
    try:
        if seen is not None and missed is None:
            missed = await context.reading.run(context.history.newer, seen, _MOST_MISSED)
    except BaseException:
        context.live.leave(reader)
        raise
    return InspectionStream(context.live, reader, missed or [], record_json)
