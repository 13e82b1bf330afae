"""Alembic's entry: on the connection it is given, or on the database of `-x ledger=URL` on its command line."""

from alembic import context
from sqlalchemy import Connection, create_engine

from service.ledger.schema import metadata


def _run(connection: Connection) -> None:
    # SQLite alters a table by making it anew.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["ledger"]).begin() as own:
        _run(own)
