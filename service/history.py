"""What was inspected, read from the ledger in pages, newest first."""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Engine, Select, func, select

from service.errors import UnknownInspection
from service.history_filter import Filter, Place, page_query
from service.ids import first_id_at
from service.ledger.records import InspectionRecord
from service.ledger.schema import inspections, reviews

# An id is taken just before its record is committed: none that is older than this is still to come.
SETTLED_MICROSECONDS = 60_000_000
# Clients give stations names.
_MOST_NAMES = 200
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


class History:
    """Reads the ledger. Thread-safe; every call waits for the database.

    Args:
        engine: a connection pool of the ledger's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: Filter, limit: int, after: str | None = None, before: str | None = None) -> list[Entry]:
        """At most `limit` inspections, the newest first.

        Args:
            after: the id of an inspection that the page comes after, newest first; None begins with the newest.
            before: the id of one that the page comes directly before.
        """
        entries = self._entries(page_query(wanted, limit, Place(after, before)))
        return entries if before is None else entries[::-1]

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

    def part_classes(self) -> list[str]:
        """Of which there are inspections, in the order of the alphabet; the first 200."""
        return self._names(inspections.c.part_class)

    def stations(self) -> list[str]:
        """The same of stations."""
        return self._names(inspections.c.station)

    def _names(self, column: Column[Any]) -> list[str]:
        """From one name to the next by the column's index, which is as quick as there are names."""
        first = select(func.min(column).label("name")).where(column.is_not(None)).cte("names", recursive=True)
        following = select(func.min(column)).where(column > first.c.name).scalar_subquery()
        names = first.union_all(select(following).where(first.c.name.is_not(None)))
        query = select(names.c.name).where(names.c.name.is_not(None)).limit(_MOST_NAMES)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def _entries(self, query: Select[Any]) -> list[Entry]:
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
