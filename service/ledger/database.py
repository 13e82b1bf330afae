"""Connections to the ledger's database, SQLite or PostgreSQL."""

import sqlite3
from pathlib import Path
from typing import Any, Literal

import orjson
import sqlalchemy
from sqlalchemy import URL, Connection, Engine, NullPool, event
from sqlalchemy.exc import ArgumentError, StatementError

from service.errors import StartError

Sync = Literal["full", "normal"]
FILE_NAME = "ledger.sqlite3"
_BUSY_SECONDS = 5.0
# A long export keeps SQLite from starting its write-ahead log anew; it shrinks to this afterwards.
_LOG_BYTES = 64 * 2**20
_POSTGRES = {
    "connect_timeout": 5,
    # Milliseconds after which a server that no longer answers counts as gone.
    "tcp_user_timeout": 5000,
    "application_name": "unispect",
}


def parse_url(url: str | None, folder: Path) -> URL:
    """The database of a setting; None is `ledger.sqlite3` in `folder`.

    Raises:
        StartError: it is no URL, or neither of a SQLite file nor of a PostgreSQL database.
    """
    if url is None:
        return URL.create("sqlite", database=str(folder / FILE_NAME))
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError:
        raise StartError(
            "The setting ledger is no URL; give one as sqlite:////folder/ledger.sqlite3 or "
            "postgresql://user@host/database."
        ) from None
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite" or parsed.database in (None, "", ":memory:") or parsed.query:
        raise StartError(
            f"The setting ledger is {parsed.render_as_string()!r}, which is neither of a SQLite file "
            "(sqlite:////folder/ledger.sqlite3) nor of a PostgreSQL database (postgresql://user@host/database)."
        )
    return parsed.set(drivername="sqlite")


def writing_engine(url: URL, sync: Sync) -> Engine:
    """What the one writer connects by. With `sync` full a commit is on the disk, with normal a power cut may undo it.

    Raises:
        StartError: the database's driver is not installed.
    """
    engine = _engine(url, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            _set_up_sqlite(connection, "journal_mode = WAL", f"synchronous = {sync}", "foreign_keys = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        elif sync == "normal":
            connection.execute("SET synchronous_commit = off")
            connection.commit()

    if url.get_backend_name() == "sqlite":
        # At once: a transaction that begins by reading cannot always become one that writes.
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def reading_engine(url: URL) -> Engine:
    """What all others connect by, from any thread; nothing can be written through it.

    Raises:
        StartError: the database's driver is not installed.
    """
    if url.get_backend_name() == "postgresql":
        return _engine(url, pool_pre_ping=True).execution_options(postgresql_readonly=True)
    engine = _engine(url)

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: object) -> None:
        _set_up_sqlite(connection, "query_only = ON")

    event.listen(engine, "begin", _begin)
    return engine


def reason_of(error: Exception) -> str:
    """What the database itself says, in one line and without a full stop."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__).rstrip(".")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _set_up_sqlite(connection: sqlite3.Connection, *pragmas: str) -> None:
    # The driver's own transactions leave out DDL and reading; SQLAlchemy's events begin them instead.
    connection.isolation_level = None
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _engine(url: URL, **options: Any) -> Engine:
    postgres = url.get_backend_name() == "postgresql"
    try:
        return sqlalchemy.create_engine(
            url,
            connect_args=_POSTGRES if postgres else {"timeout": _BUSY_SECONDS},
            json_serializer=_to_json,
            json_deserializer=orjson.loads,
            **options,
        )
    except ModuleNotFoundError as error:
        raise StartError(
            f"The ledger's database needs the package {error.name}; install it with pip install 'unispect[postgres]'."
        ) from error


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()
