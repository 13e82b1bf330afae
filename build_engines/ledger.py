"""The ledger of an inspection service, read by the names of its tables and columns; service/ledger/schema.py has them.

Nothing is written: a SQLite file is opened for reading alone, beside the service that writes it.
"""

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, Select, column, create_engine, func, make_url, select, table
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from build_engines.errors import LedgerError
from engines.bundle import is_name

OK, DEFECT = "ok", "defect"
INSPECTIONS = table(
    "inspections",
    *map(column, ("id", "time", "part_class", "score", "verdict", "engine_name", "engine_version", "image_sha256")),
)
REVIEWS = table("reviews", *map(column, ("id", "inspection_id", "label")))
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An image that a person judged, and what the engine had said of it.

    Attributes:
        verdict: pass, review or fail.
        label: ok or defect, the latest.
    """

    image_sha256: str
    part_class: str
    verdict: str
    score: float
    label: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The engine whose inspections are meant: another one of the same name and version may have been before it."""

    name: str
    version: str
    created: datetime


class LedgerReader:
    """Reads a ledger. Its methods raise LedgerError where the database cannot be read, or is no ledger.

    Args:
        where: a SQLite file, or a URL such as `postgresql://user@host/database`.

    Raises:
        LedgerError: no such file, another kind of database, or its driver is not installed.
    """

    def __init__(self, where: str) -> None:
        self.name = where
        self._engine = _engine(where)

    def reviewed(self, origin: Origin | None = None) -> list[Reviewed]:
        """The images that were reviewed, each once, with the latest of their reviews; of one engine, or of all."""
        query = (
            select(
                INSPECTIONS.c.image_sha256,
                INSPECTIONS.c.part_class,
                INSPECTIONS.c.verdict,
                INSPECTIONS.c.score,
                REVIEWS.c.label,
            )
            .join_from(REVIEWS, INSPECTIONS, REVIEWS.c.inspection_id == INSPECTIONS.c.id)
            .order_by(REVIEWS.c.id)
        )
        latest = {row.image_sha256: Reviewed(*row) for row in self._rows(_of(query, origin))}
        for one in latest.values():
            # They become names of folders and files.
            if not is_name(one.part_class) or _DIGEST.fullmatch(one.image_sha256) is None:
                raise LedgerError(f"{self.name} has a part class or an image that no service wrote; do not use it.")
        return list(latest.values())

    def inspected(self, origin: Origin) -> dict[tuple[str, str], int]:
        """How many images an engine judged, by part class and verdict."""
        images = func.count(INSPECTIONS.c.image_sha256.distinct())
        groups = (INSPECTIONS.c.part_class, INSPECTIONS.c.verdict)
        rows = self._rows(_of(select(*groups, images).group_by(*groups), origin))
        return {(part_class, verdict): count for part_class, verdict, count in rows}

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(query).all()
        except DBAPIError as error:
            reason = next(iter(str(error.orig).strip().splitlines()), "no reason given").rstrip(".")
            raise LedgerError(f"{self.name} cannot be read as a ledger ({reason}); give the service's own.") from error


def _of(query: Select[Any], origin: Origin | None) -> Select[Any]:
    if origin is None:
        return query
    return query.where(
        INSPECTIONS.c.engine_name == origin.name,
        INSPECTIONS.c.engine_version == origin.version,
        INSPECTIONS.c.time >= round(origin.created.timestamp() * 1e6),
    )


def _engine(where: str) -> Engine:
    try:
        url = make_url(where) if "://" in where else URL.create("sqlite", database=where)
    except ArgumentError as error:
        raise LedgerError(
            f"The ledger {where!r} is no URL; give a file, or postgresql://user@host/database."
        ) from error
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise LedgerError("A ledger in PostgreSQL needs its driver; pip install 'unispect[postgres]'.") from error
    if url.get_backend_name() != "sqlite":
        raise LedgerError(f"A ledger is in SQLite or PostgreSQL, not in {url.get_backend_name()}; give the service's.")
    path = Path(url.database or "")
    if not path.is_file():
        raise LedgerError(f"There is no ledger {path}; give the file ledger.sqlite3 in the service's data folder.")
    read_only = f"{path.resolve().as_uri()}?mode=ro"
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(read_only, uri=True), poolclass=NullPool)
