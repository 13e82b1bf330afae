"""Server-sent events: inspections as they are committed, and after an interruption those that were missed."""

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from service.ledger.records import InspectionRecord
from service.live import Live, Reader

EVENT = "inspection"
_KEEP_ALIVE_SECONDS = 15.0
_RETRY_MILLISECONDS = 2000
# After a pause an event is sent at once. Of many a second those of a pause go together: sending is what costs.
_PAUSE_SECONDS = 0.1


class InspectionStream(EventSourceResponse):
    """Answers with an event per inspection until the client leaves, is dropped, or the service stops.

    Args:
        live: is left at the end.
        reader: gives the inspections.
        missed: what comes before them, oldest first.
        encode: the JSON of an inspection, in one line.
    """

    def __init__(
        self,
        live: Live,
        reader: Reader,
        missed: list[InspectionRecord],
        encode: Callable[[InspectionRecord], bytes],
    ) -> None:
        super().__init__(
            _chunks(reader, missed, encode), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._live, self._reader = live, reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def leave_when_gone() -> None:
            await self.listen_for_disconnect(receive)
            self._live.leave(self._reader)

        watch = asyncio.create_task(leave_when_gone())
        try:
            await self.stream_response(send)
        finally:
            watch.cancel()
            self._live.leave(self._reader)


async def _chunks(
    reader: Reader, missed: list[InspectionRecord], encode: Callable[[InspectionRecord], bytes]
) -> AsyncIterator[bytes]:
    def event(record: InspectionRecord) -> bytes:
        return format_sse_event(data_str=encode(record).decode(), event=EVENT, id=record.id)

    yield format_sse_event(retry=_RETRY_MILLISECONDS)
    for record in missed:
        yield event(record)
    # What was committed while the ledger was read comes both ways.
    told = {record.id for record in missed}
    async for new in reader.records(_KEEP_ALIVE_SECONDS):
        if new is None:
            yield KEEPALIVE_COMMENT
            continue
        yield b"".join(event(one) for one in (new, *reader.waiting()) if one.id not in told)
        await asyncio.sleep(_PAUSE_SECONDS)
