"""Writes the ledger: one thread, and one transaction for all that waits (group commit).

A disk makes a few hundred commits durable a second, and many times as many rows.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

from sqlalchemy import URL, Connection, Table
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from service.ids import new_id
from service.ledger.database import Sync, reason_of, writing_engine
from service.ledger.inserting import Inserter
from service.ledger.migrations import upgrade
from service.ledger.schema import resets

OPENING = "The ledger is being opened; ask again in a second."
_MOST_IN_GROUP = 512
_RETRY_SECONDS = 1.0
# About what a group writes: a disk that has room for one byte only is full.
_PROBE_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Entry:
    """A row to be inserted; `future` is of who waits for it."""

    table: Table
    row: dict[str, Any]
    future: asyncio.Future[None] | None


Settle = Callable[[list[Entry], str | None], None]


class Writer:
    """Owns the connection that writes. While the database cannot be written it is tried again every second.

    Args:
        settle: called by the thread with entries that have been committed, or that have not, and why.
        opened: called by the thread once the first attempt to open the database has succeeded or failed.

    Attributes:
        problem: why nothing can be written now, in one sentence.
        since: when what is being written was begun, by `perf_counter`.
        on_open: called by the thread once the tables are there, before anything is written.
        on_commit: called by the thread after each commit, with its number of rows and its seconds.

    Raises:
        StartError: the database's driver is not installed.
    """

    def __init__(self, url: URL, sync: Sync, settle: Settle, opened: Callable[[], None]) -> None:
        self.problem: str | None = OPENING
        self.since: float | None = None
        self.on_open: list[Callable[[Connection], None]] = []
        self.on_commit: list[Callable[[int, float], None]] = []
        self._name = url.render_as_string()
        self._engine = writing_engine(url, sync)
        self._inserter = Inserter(self._engine)
        self._settle, self._opened = settle, opened
        self._connection: Connection | None = None
        self._migrated = False
        self._waiting: SimpleQueue[Entry | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin to open the database and to bring its tables to the newest version."""
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Have a row written, unless one with its id is there. From any thread."""
        self._waiting.put(entry)

    def close(self, seconds: float) -> None:
        """Wait until what was put is written and the database closed, but for no longer than `seconds`."""
        self._waiting.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        self._write([])
        self._opened()
        more = True
        while more:
            group, more = self._collect()
            self._write(group)
        self._disconnect()

    def _collect(self) -> tuple[list[Entry], bool]:
        """All that waits, once something does, and whether more may come; nothing where it is time to try again."""
        group: list[Entry] = []
        try:
            entry = self._waiting.get(timeout=None if self.problem is None else _RETRY_SECONDS)
            while entry is not None:
                group.append(entry)
                if len(group) == _MOST_IN_GROUP:
                    break
                entry = self._waiting.get_nowait()
        except Empty:
            return group, True
        return group, entry is not None

    def _write(self, group: list[Entry]) -> None:
        self.since = perf_counter()
        try:
            try:
                self._commit(group)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The server was started anew, or the line was cut. What it did commit is not inserted twice.
                self._disconnect()
                self._commit(group)
        except Exception as error:
            self._disconnect()
            self._fail(group, error)
        else:
            if self.problem not in (None, OPENING):
                _log.info("The ledger %s can be written again.", self._name)
            self.problem = None
            self._settle(group, None)
        finally:
            self.since = None

    def _fail(self, group: list[Entry], error: Exception) -> None:
        reason = reason_of(error)
        if not _is_about_a_row(error):
            problem = f"The ledger cannot be written ({reason}); free or mend its disk or its database."
            if problem != self.problem:
                _log.error("The ledger %s cannot be written; inspections are refused.", self._name, exc_info=error)
            self.problem = problem
            self._settle(group, problem)
        elif len(group) > 1:
            for entry in group:
                self._write([entry])
        else:
            _log.error("The ledger's database refuses a row.", exc_info=error)
            self._settle(group, f"The ledger's database refuses the record ({reason}); see the log.")

    def _commit(self, group: list[Entry]) -> None:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._open()
        began = perf_counter()
        if group:
            by_table = groupby(group, key=lambda entry: entry.table)
            self._inserter.commit(connection, ((table, [entry.row for entry in some]) for table, some in by_table))
            seconds = perf_counter() - began
            for observe in self.on_commit:
                observe(len(group), seconds)
        elif self.problem is not None:
            self._probe(connection)

    def _open(self) -> Connection:
        connection = self._engine.connect()
        try:
            if not self._migrated:
                with connection.begin():
                    upgrade(connection)
                with connection.begin():
                    for read in self.on_open:
                        read(connection)
                self._migrated = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _probe(self, connection: Connection) -> None:
        """Write as much as a group does, and take it back."""
        row = {"id": new_id(), "time": 0, "client": "-" * _PROBE_BYTES}
        with connection.begin():
            connection.execute(resets.insert(), [row])
            connection.execute(resets.delete().where(resets.c.id == row["id"]))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:
                _log.debug("A connection was lost already.", exc_info=True)


def _is_about_a_row(error: Exception) -> bool:
    """Whether another row might be written."""
    if isinstance(error, DBAPIError):
        return isinstance(error, IntegrityError | DataError)
    return isinstance(error, StatementError)
