"""The ledger: what is given to it is in the database once it returns."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from sqlalchemy import URL, Connection, Table, select
from sqlalchemy.exc import SQLAlchemyError

from service.errors import LedgerFailed
from service.ledger.database import Sync, reading_engine, reason_of
from service.ledger.records import InspectionRecord
from service.ledger.schema import inspections
from service.ledger.writer import Entry, Writer

# A database that hangs holds no request for longer; what it commits afterwards was not acknowledged.
_STALLED_SECONDS = 10.0
_CLOSING_SECONDS = 20.0
_HANGS = f"The ledger has not answered for over {_STALLED_SECONDS:.0f} s; mend its database or its disk."
_log = logging.getLogger(__name__)


class Ledger:
    """The inspections of one service. `start`, `record`, `insert` and `close` are called on one event loop.

    Args:
        url: as `service.ledger.database.parse_url` gives it.
        sync: full keeps what was committed through a power cut, normal only through the death of the service.

    Attributes:
        engine: to read by, from any thread.

    Raises:
        StartError: the database's driver is not installed.
    """

    def __init__(self, url: URL, sync: Sync = "full") -> None:
        self.engine = reading_engine(url)
        self._writer = Writer(url, sync, self._settle, self._tell_opened)
        self._closed = False

    @property
    def problem(self) -> str | None:
        """Why nothing can be recorded now, in one sentence; None where all is well."""
        since = self._writer.since
        if self._writer.problem is None and since is not None and perf_counter() - since > _STALLED_SECONDS:
            return _HANGS
        return self._writer.problem

    def check(self) -> None:
        """Raises LedgerFailed where `record` would."""
        if (problem := self.problem) is not None:
            raise LedgerFailed(problem)

    def on_open(self, read: Callable[[Connection], None]) -> None:
        """Have `read` called by the writing thread once the tables are there, before anything is written."""
        self._writer.on_open.append(read)

    def on_commit(self, observe: Callable[[int, float], None]) -> None:
        """Have `observe` called by the writing thread after each commit, with its number of rows and its seconds."""
        self._writer.on_commit.append(observe)

    async def start(self) -> None:
        """Open the database and bring its tables to the newest version.

        Returns once that is done or has failed; then `problem` says why, and it is tried again every second.
        """
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._writer.start()
        await self._opened

    async def record(self, record: InspectionRecord) -> None:
        """Commit an inspection. Raises LedgerFailed where it is not in the database afterwards."""
        await self.insert(inspections, record.row())

    async def insert(self, table: Table, row: dict[str, Any]) -> None:
        """Commit one row of a table of `service.ledger.schema`; a row whose id is there already is left as it is.

        Raises LedgerFailed where it is not in the database afterwards.
        """
        if self._closed:
            raise LedgerFailed("The ledger is closed, for the service stops; send the image again in a few seconds.")
        future: asyncio.Future[None] = self._loop.create_future()
        self._writer.put(Entry(table, row, future))
        patience = self._loop.call_later(_STALLED_SECONDS, _finish, future, _HANGS)
        try:
            await future
        finally:
            patience.cancel()

    def submit(self, table: Table, row: dict[str, Any]) -> None:
        """The same from any thread, without waiting: what cannot be written is lost, and the log says so."""
        self._writer.put(Entry(table, row, None))

    def find(self, id_: str) -> InspectionRecord | None:
        """The inspection of an id, or None. It waits for the database: call it in a thread.

        Raises LedgerFailed where the database cannot be read.
        """
        try:
            with self.engine.connect() as connection:
                row = connection.execute(select(inspections).where(inspections.c.id == id_)).one_or_none()
        except SQLAlchemyError as error:
            raise LedgerFailed(
                f"The ledger cannot be read ({reason_of(error)}); ask again in a few seconds."
            ) from error
        return None if row is None else InspectionRecord.of_row(row)

    async def close(self) -> None:
        """Write what waits, and close the database; one that hangs is left behind after a while."""
        self._closed = True
        await asyncio.to_thread(self._writer.close, _CLOSING_SECONDS)
        self.engine.dispose()

    def _tell_opened(self) -> None:
        self._loop.call_soon_threadsafe(_finish, self._opened, None)

    def _settle(self, group: list[Entry], problem: str | None) -> None:
        if problem is not None and (lost := sum(entry.future is None for entry in group)):
            _log.error("%d rows that nobody waits for are not in the ledger: %s", lost, problem)
        futures = [entry.future for entry in group if entry.future is not None]
        if futures:
            self._loop.call_soon_threadsafe(_finish_all, futures, problem)


def _finish_all(futures: Iterable[asyncio.Future[None]], problem: str | None) -> None:
    for future in futures:
        _finish(future, problem)


def _finish(future: asyncio.Future[None], problem: str | None) -> None:
    if future.done():
        return
    if problem is None:
        future.set_result(None)
    else:
        future.set_exception(LedgerFailed(problem))
