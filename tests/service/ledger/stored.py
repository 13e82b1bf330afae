"""What a service's own database holds, read without the service's code."""

import sqlite3
from pathlib import Path
from typing import Any

FILE = "ledger.sqlite3"


def stored(data_dir: Path, question: str) -> list[tuple[Any, ...]]:
    """The rows of a query on the database of a data folder."""
    connection = sqlite3.connect(data_dir / FILE)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def stored_ids(data_dir: Path) -> set[str]:
    """The ids of all inspections."""
    return {id_ for (id_,) in stored(data_dir, "SELECT id FROM inspections")}
