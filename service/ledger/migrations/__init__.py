"""Brings a ledger's tables to the newest version. `alembic -x ledger=URL revision --autogenerate -m ...` drafts one."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

# Any number will do, as long as all services that share a database take the same.
_LOCK = 0x756E6973


def upgrade(connection: Connection) -> None:
    """Apply the missing migrations, in the transaction that `connection` is in.

    Raises `alembic.util.CommandError` where the tables are of a newer version than this program knows.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(files(__name__)))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
