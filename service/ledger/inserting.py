"""Inserts rows into the ledger: into PostgreSQL by SQLAlchemy, into SQLite by the driver below it.

After an inference the processor's caches hold the engine; SQLAlchemy's long way to an insert, read anew from memory,
is then a quarter of a transaction's time, and each inspection waits for it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy.exc
from sqlalchemy import Connection, Dialect, Engine, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

from service.ledger.schema import metadata

Row = Mapping[str, Any]


class Inserter:
    """Leaves a row whose id is there already as it is.

    Args:
        engine: whose connections are given to `commit`.
    """

    def __init__(self, engine: Engine) -> None:
        self._inserts = {table: _insert(table, engine.dialect) for table in metadata.sorted_tables}
        self._prepared: dict[Table, _Prepared] = {}
        if engine.dialect.name == "sqlite":
            self._prepared = {
                table: _Prepared.of(table, insert, engine.dialect) for table, insert in self._inserts.items()
            }

    def commit(self, connection: Connection, rows: Iterable[tuple[Table, Sequence[Row]]]) -> None:
        """Insert rows by table in one transaction. Raises SQLAlchemyError where none is in the database."""
        if self._prepared:
            self._commit_to_sqlite(connection, rows)
            return
        with connection.begin():
            for table, some in rows:
                connection.execute(self._inserts[table], some)

    def _commit_to_sqlite(self, connection: Connection, rows: Iterable[tuple[Table, Sequence[Row]]]) -> None:
        driver: Any = connection.connection.driver_connection
        prepared = [(self._prepared[table], some) for table, some in rows]
        values = [(one.sql, one.values(some)) for one, some in prepared]
        try:
            driver.execute("BEGIN IMMEDIATE")
            with driver:
                for sql, tuples in values:
                    driver.executemany(sql, tuples)
        except sqlite3.Error as error:
            # As SQLAlchemy does it: its errors have the names that PEP 249 gives a driver's.
            kind = getattr(sqlalchemy.exc, type(error).__name__, sqlalchemy.exc.DBAPIError)
            raise kind(None, None, error) from error


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An insert of all columns of a table, in the driver's own terms."""

    sql: str
    columns: tuple[tuple[str, Callable[[Any], Any] | None], ...]

    @classmethod
    def of(cls, table: Table, insert: Insert, dialect: Dialect) -> "_Prepared":
        columns = [(one.name, one.type.dialect_impl(dialect).bind_processor(dialect)) for one in table.columns]
        return cls(str(insert.compile(dialect=dialect)), tuple(columns))

    def values(self, rows: Iterable[Row]) -> list[tuple[Any, ...]]:
        """Raises StatementError where a value has no place in its column."""
        try:
            return [
                tuple([row.get(name) if convert is None else convert(row.get(name)) for name, convert in self.columns])
                for row in rows
            ]
        except (TypeError, ValueError) as error:
            raise sqlalchemy.exc.StatementError(str(error), self.sql, None, error) from error


def _insert(table: Table, dialect: Dialect) -> Insert:
    if dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing(index_elements=["id"])
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=["id"])
