"""Ledgers as the service writes them, by the service itself."""

import asyncio
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from sqlalchemy import URL

from service.ids import new_id
from service.ledger.database import parse_url
from service.ledger.ledger import Ledger
from service.ledger.records import InspectionRecord
from service.ledger.schema import reviews

# An inspection, and its reviews in their order.
Entry = tuple[InspectionRecord, Sequence[str]]


def write_ledger(where: Path | URL, entries: Sequence[Entry]) -> str:
    """Record inspections and their reviews in a folder's ledger, or in a database; returns where, for a command."""
    url = parse_url(None, where) if isinstance(where, Path) else where

    async def write() -> None:
        ledger = Ledger(url, "normal")
        await ledger.start()
        assert ledger.problem is None
        await asyncio.gather(*(ledger.record(record) for record, _ in entries))
        rows = [
            {"id": new_id(at * 1000), "inspection_id": record.id, "time": at, "label": label}
            | {"note": None, "reviewer": "anna"}
            for record, labels in entries
            for at, label in zip(count(record.time, 1000), labels, strict=False)
        ]
        await asyncio.gather(*(ledger.insert(reviews, row) for row in rows))
        await ledger.close()

    asyncio.run(write())
    return str(url.database) if isinstance(where, Path) else url.render_as_string(hide_password=False)
