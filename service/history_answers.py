"""What the service answers of past inspections: JSON as documented in /docs, and CSV."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from service.answers import InspectedAnswer
from service.history import Entry, Review
from service.ledger.records import InspectionRecord
from service.ledger.schema import inspections
from service.statistics import Statistics
from service.timing import STAGES

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A spreadsheet takes a cell that begins so for a formula; these texts come from clients.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CSV_COLUMNS = (*inspections.c.keys(), "review", "review_note", "reviewer")
_FOREIGN = ("part_id", "station", "client", "review_note", "reviewer")


class ReviewAnswer(BaseModel):
    """What a person said of an inspection."""

    id: str
    inspection_id: str
    time: datetime
    label: Literal["ok", "defect"]
    note: str | None
    reviewer: str | None = Field(description="The API key's name, or the address without keys.")


class RecordedAnswer(InspectedAnswer):
    """An inspection as the ledger keeps it."""

    time: datetime = Field(description="Of the result.")
    station: str | None = Field(description="As given with the request.")
    client: str | None = Field(description="The API key's name, or the address without keys.")
    image_sha256: str = Field(description="Of the file that was sent.")


class EntryAnswer(RecordedAnswer):
    """An inspection and its latest review."""

    review: ReviewAnswer | None


class DetailAnswer(EntryAnswer):
    """An inspection and all its reviews, the latest first."""

    reviews: list[ReviewAnswer]


class PageAnswer(BaseModel):
    """Some inspections, the newest first."""

    inspections: list[EntryAnswer]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last.")


class ExecutionAnswer(BaseModel):
    """Milliseconds from the received body to the result; null without an inspection."""

    min: float | None
    median: float | None = Field(description="To 0.01 ms.")
    max: float | None


class StatisticsAnswer(BaseModel):
    """All inspections since the last reset."""

    since: datetime | None = Field(description="Of the last reset; null where there was none.")
    inspections: int
    verdicts: dict[str, int]
    part_classes: dict[str, dict[str, int]] = Field(description="Verdicts by part class.")
    pass_rate: float | None = Field(description="Share that passed, in [0, 1]; null without an inspection.")
    execution_ms: ExecutionAnswer

    @classmethod
    def of(cls, statistics: Statistics) -> "StatisticsAnswer":
        verdicts: dict[str, int] = {}
        part_classes: dict[str, dict[str, int]] = {}
        for (part_class, verdict), count in sorted(statistics.verdicts.items()):
            verdicts[verdict] = verdicts.get(verdict, 0) + count
            part_classes.setdefault(part_class, {})[verdict] = count
        return cls(
            since=None if statistics.since is None else time_of(statistics.since),
            inspections=statistics.inspections,
            verdicts=verdicts,
            part_classes=part_classes,
            pass_rate=statistics.pass_rate,
            execution_ms=ExecutionAnswer(
                min=_milliseconds(statistics.shortest),
                median=_milliseconds(statistics.median),
                max=_milliseconds(statistics.longest),
            ),
        )


def time_of(microseconds: int) -> datetime:
    """A time of the ledger, microseconds since 1970 in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds_of(time: datetime) -> int:
    """A time as the ledger has it; without an offset it is taken for UTC."""
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def record_json(record: InspectionRecord) -> bytes:
    """A `RecordedAnswer` in one line."""
    return orjson.dumps(_record_members(record))


def page_json(entries: list[Entry], next_: str | None) -> bytes:
    """A `PageAnswer`. Built without the models, as an inspection's answer is."""
    return orjson.dumps({"inspections": [_entry_members(entry) for entry in entries], "next": next_})


def detail_json(entry: Entry, reviews: list[Review]) -> bytes:
    """A `DetailAnswer`."""
    return orjson.dumps({**_entry_members(entry), "reviews": [_review_members(review) for review in reviews]})


def review_json(review: Review) -> bytes:
    """A `ReviewAnswer`."""
    return orjson.dumps(_review_members(review))


def csv_lines(entries: Iterable[Entry], *, header: bool) -> str:
    """A line for each inspection, with the columns of the ledger's table and of the latest review.

    A text of a client's that a spreadsheet would take for a formula has an apostrophe before it.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _CSV_COLUMNS)
    if header:
        writer.writeheader()
    for entry in entries:
        cells = entry.record.row() | _review_cells(entry.review)
        cells["time"] = time_of(entry.record.time).isoformat()
        cells["regions"] = orjson.dumps(entry.record.regions).decode()
        for name in _FOREIGN:
            if (text := cells.get(name)) and text.startswith(_FORMULA):
                cells[name] = f"'{text}"
        writer.writerow(cells)
    return buffer.getvalue()


def _review_cells(review: Review | None) -> dict[str, Any]:
    if review is None:
        return {}
    return {"review": review.label, "review_note": review.note, "reviewer": review.reviewer}


def _record_members(record: InspectionRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "time": time_of(record.time),
        "part_id": record.part_id,
        "station": record.station,
        "client": record.client,
        "score": record.score,
        "threshold": record.threshold,
        "verdict": record.verdict,
        "p_value": record.p_value,
        "part_class": record.part_class,
        "part_class_source": record.part_class_source,
        "unknown_part": record.unknown_part,
        "regions": record.regions,
        "image": {"width": record.width, "height": record.height},
        "image_sha256": record.image_sha256,
        "engine": record.engine,
        "timing_ms": {stage: _milliseconds(getattr(record.timing, stage)) for stage in STAGES},
    }


def _entry_members(entry: Entry) -> dict[str, Any]:
    return {**_record_members(entry.record), "review": entry.review and _review_members(entry.review)}


def _review_members(review: Review) -> dict[str, Any]:
    return {**review.row(), "time": time_of(review.time)}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000.0, 3)
