"""GET /v1/inspections: what was inspected, in pages, as CSV, and one by one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from engines.scoring import Verdict
from service.context import Context, context_of
from service.errors import LedgerFailed
from service.history import Entry
from service.history_answers import DetailAnswer, PageAnswer, csv_lines, detail_json, microseconds_of, page_json
from service.history_filter import Filter
from service.problems import PROBLEM
from service.texts import Printable

router = APIRouter(tags=["history"])
_CSV_PAGE = 500
_OUTAGE_SECONDS = 60.0
_RETRY_SECONDS = 2.0
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {**PROBLEM, "description": "There is no such inspection."}}


class FilterQuery(BaseModel):
    """Which inspections. A misspelt parameter is refused: it would silently show others."""

    model_config = ConfigDict(extra="forbid")

    part_class: Printable | None = Field(None, max_length=64)
    verdict: Verdict | None = None
    station: Printable | None = Field(None, max_length=64)
    part_id: Printable | None = Field(None, max_length=128)
    from_: datetime | None = Field(None, alias="from", description="Not before this time; UTC if it has no offset.")
    to: datetime | None = Field(None, description="Before this time; UTC if it has no offset.")
    reviewed: bool | None = Field(None, description="Whether it has a review.")

    def filter(self) -> Filter:
        """For the ledger."""
        return Filter(
            part_class=self.part_class,
            verdict=self.verdict,
            station=self.station,
            part_id=self.part_id,
            since=None if self.from_ is None else microseconds_of(self.from_),
            until=None if self.to is None else microseconds_of(self.to),
            reviewed=self.reviewed,
        )


class PageQuery(FilterQuery):
    """A page of them."""

    limit: int = Field(50, ge=1, le=200, description="Inspections on the page.")
    after: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="`next` of the page before.")


@router.get("/v1/inspections", response_model=PageAnswer, summary="Past inspections, the newest first")
async def inspections(request: Request, query: Annotated[PageQuery, Query()]) -> Response:
    context = context_of(request)

    def read() -> bytes:
        # One more than asked for tells whether another page follows.
        entries = context.history.page(query.filter(), query.limit + 1, query.after)
        page, more = entries[: query.limit], len(entries) > query.limit
        return page_json(page, page[-1].record.id if more else None)

    return Response(await context.reading.run(read), media_type="application/json")


@router.get(
    "/v1/inspections.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    summary="Past inspections as CSV, the newest first",
)
async def inspections_csv(request: Request, query: Annotated[FilterQuery, Query()]) -> Response:
    pages = _csv_pages(context_of(request), query.filter())
    # Read before the answer begins: an error still has a status.
    first = await anext(pages)

    async def content() -> AsyncIterator[str]:
        yield first
        async for page in pages:
            yield page

    headers = {"Content-Disposition": 'attachment; filename="inspections.csv"'}
    return StreamingResponse(content(), 200, headers, "text/csv; charset=utf-8")


@router.get("/v1/inspections/{id}", response_model=DetailAnswer, responses=UNKNOWN, summary="One past inspection")
async def inspection(request: Request, id: str) -> Response:
    context = context_of(request)

    def read() -> bytes:
        return detail_json(context.history.entry(id), context.history.reviews(id))

    return Response(await context.reading.run(read), media_type="application/json")


async def _csv_pages(context: Context, wanted: Filter) -> AsyncIterator[str]:
    """Page by page: a transaction as long as a slow download would keep the database from tidying up."""
    after: str | None = None

    def read() -> tuple[list[Entry], str]:
        entries = context.history.page(wanted, _CSV_PAGE, after)
        return entries, csv_lines(entries, header=after is None)

    lost: float | None = None
    while True:
        start = perf_counter()
        try:
            entries, text = await context.reading.run(read)
        except LedgerFailed:
            # A table that has begun can be cut off, and can no longer be a problem: it waits for the database first.
            lost = start if lost is None else lost
            if after is None or start - lost > _OUTAGE_SECONDS:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        lost = None
        yield text
        if len(entries) < _CSV_PAGE:
            return
        after = entries[-1].record.id
        # Half of one core at most: inspections go first.
        await asyncio.sleep(perf_counter() - start)
