"""What was inspected, read from the ledger in pages, newest first."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, Select, select

from service.errors import UnknownInspection
from service.ids import first_id_at
from service.ledger.records import InspectionRecord
from service.ledger.schema import inspections, reviews

# An id is taken just before its record is committed: none that is older than this is still to come.
SETTLED_MICROSECONDS = 60_000_000
_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Review:
    """What a person said of an inspection. Columns of `service.ledger.schema.reviews`."""

    id: str
    inspection_id: str
    time: int
    label: str
    note: str | None
    reviewer: str | None

    def row(self) -> dict[str, str | int | None]:
        """The columns by name, for an insert."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Entry:
    """An inspection and the latest of its reviews."""

    record: InspectionRecord
    review: Review | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which inspections; None leaves a member open.

    Attributes:
        since, until: microseconds since 1970 in UTC; the first included, the last not.
        reviewed: whether there is a review.
    """

    part_class: str | None = None
    verdict: str | None = None
    station: str | None = None
    part_id: str | None = None
    since: int | None = None
    until: int | None = None
    reviewed: bool | None = None

    def conditions(self) -> Iterable[ColumnElement[bool]]:
        """For a WHERE."""
        for name in ("part_class", "verdict", "station", "part_id"):
            if (value := getattr(self, name)) is not None:
                yield inspections.c[name] == value
        # Ids sort by time: the span of ids is found at once, the column settles what is within a millisecond.
        if self.since is not None:
            yield inspections.c.id >= first_id_at(self.since)
            yield inspections.c.time >= self.since
        if self.until is not None:
            yield inspections.c.id < first_id_at(self.until + 1_000)
            yield inspections.c.time < self.until
        if self.reviewed is not None:
            is_reviewed = inspections.c.id.in_(select(reviews.c.inspection_id))
            yield is_reviewed if self.reviewed else ~is_reviewed


class History:
    """Reads the ledger. Thread-safe; every call waits for the database.

    Args:
        engine: a connection pool of the ledger's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: Filter, limit: int, after: str | None = None) -> list[Entry]:
        """The newest `limit` inspections, or those that come after the inspection with the id `after`."""
        query = select(inspections).where(*wanted.conditions())
        if after is not None:
            query = query.where(inspections.c.id < after)
        return self._entries(query.order_by(inspections.c.id.desc()).limit(limit))

    def entry(self, inspection_id: str) -> Entry:
        """One inspection. Raises UnknownInspection where the ledger has none with this id."""
        known_form = _ID.fullmatch(inspection_id)
        entries = self._entries(select(inspections).where(inspections.c.id == inspection_id)) if known_form else []
        if not entries:
            raise UnknownInspection(f"The ledger has no inspection {inspection_id[:64]!r}; /v1/inspections lists them.")
        return entries[0]

    def reviews(self, inspection_id: str) -> list[Review]:
        """All reviews of an inspection, the latest first."""
        return self._reviews([inspection_id])

    def newer(self, inspection_id: str, limit: int) -> list[InspectionRecord]:
        """The newest `limit` inspections that may have come after another one, the oldest of them first.

        Those of the minute before it are among them: some were committed later although their ids are smaller.
        """
        begin = first_id_at(int(inspection_id[:12], 16) * 1_000 - SETTLED_MICROSECONDS)
        query = select(inspections).where(inspections.c.id >= begin, inspections.c.id != inspection_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(inspections.c.id.desc()).limit(limit)).all()
        return [InspectionRecord.of_row(row) for row in reversed(rows)]

    def _entries(self, query: Select[tuple[object, ...]]) -> list[Entry]:
        with self._engine.connect() as connection:
            records = [InspectionRecord.of_row(row) for row in connection.execute(query)]
        latest: dict[str, Review] = {}
        for review in self._reviews([record.id for record in records]):
            latest.setdefault(review.inspection_id, review)
        return [Entry(record, latest.get(record.id)) for record in records]

    def _reviews(self, inspection_ids: list[str]) -> list[Review]:
        if not inspection_ids:
            return []
        query = select(reviews).where(reviews.c.inspection_id.in_(inspection_ids)).order_by(reviews.c.id.desc())
        with self._engine.connect() as connection:
            return [Review(**row._mapping) for row in connection.execute(query)]
