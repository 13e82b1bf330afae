"""/: the newest inspections as they happen."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.context import Context, context_of
from service.errors import LedgerFailed
from service.history_filter import Filter
from service.ledger.records import InspectionRecord
from service.templates import render, render_refused
from service.texts import Printable

router = APIRouter(include_in_schema=False)
_TEMPLATE = "live.html"
_SHOWN = 12


@router.get("/")
async def live(request: Request, station: Annotated[Printable | None, Query(max_length=64)] = None) -> Response:
    context, wanted = context_of(request), station or None

    def read() -> tuple[list[InspectionRecord], list[str]]:
        entries = context.history.page(Filter(station=wanted), _SHOWN)
        return [entry.record for entry in entries], context.history.stations()

    try:
        records, stations = await context.reading.run(read)
    except LedgerFailed as error:
        # The inspections to come are shown all the same.
        return render_refused(request, _TEMPLATE, error, records=[], stations=[], station=wanted, review_threshold=None)
    return render(
        request,
        _TEMPLATE,
        records=records,
        stations=stations,
        station=wanted,
        review_threshold=review_threshold(context, records[0].engine, records[0].part_class) if records else None,
    )


def review_threshold(context: Context, engine: Mapping[str, str], part_class: str) -> float | None:
    """The second threshold of a part class; None where there is none, or another engine serves by now."""
    manifest = context.inspector.bundle.manifest
    if (engine["name"], engine["version"]) != (manifest.name, manifest.version):
        return None
    reviews = {part.name: part.review for part in manifest.part_classes}
    return review.threshold if (review := reviews.get(part_class)) else None
