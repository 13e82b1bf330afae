"""The tables that the migrations make, and how the databases are opened."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, CheckConstraint, insert, inspect, select

from service.errors import StartError
from service.ledger.database import parse_url, writing_engine
from service.ledger.migrations import upgrade
from service.ledger.records import InspectionRecord
from service.ledger.schema import inspections, metadata
from tests.service.ledger.records import make_record


def test_the_migrations_make_the_tables_that_the_program_knows(url: URL) -> None:
    engine = writing_engine(url, "full")
    with engine.begin() as connection:
        upgrade(connection)
    with engine.begin() as connection:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        inspector = inspect(connection)
        for table in metadata.sorted_tables:
            checks = {constraint.name for constraint in table.constraints if isinstance(constraint, CheckConstraint)}
            assert {check["name"] for check in inspector.get_check_constraints(table.name)} == checks
            made = {index["name"] for index in inspector.get_indexes(table.name)}
            assert {index.name for index in table.indexes} <= made
    engine.dispose()


def test_a_ledger_of_an_older_version_keeps_its_rows_and_gets_the_indexes(url: URL) -> None:
    engine = writing_engine(url, "full")
    with engine.begin() as connection:
        upgrade(connection)
        before = _config()
        before.attributes["connection"] = connection
        command.downgrade(before, "0001")
        assert compare_metadata(MigrationContext.configure(connection), metadata) != []
    record = make_record(station="S1")
    with engine.begin() as connection:
        connection.execute(insert(inspections), [record.row()])
        upgrade(connection)
    with engine.begin() as connection:
        assert InspectionRecord.of_row(connection.execute(select(inspections)).one()) == record
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        made = {index["name"] for index in inspect(connection).get_indexes("inspections")}
    engine.dispose()
    assert made == {index.name for index in inspections.indexes}


def test_the_migrations_are_one_line_of_descent() -> None:
    script = ScriptDirectory.from_config(_config())
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1


@pytest.mark.parametrize(("sync", "level"), [("full", 2), ("normal", 1)])
def test_sqlite_waits_for_the_disk_unless_told_otherwise(tmp_path: Path, sync, level: int) -> None:
    engine = writing_engine(parse_url(None, tmp_path), sync)
    with engine.connect() as connection:
        answers = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            for pragma in ("journal_mode", "synchronous", "foreign_keys")
        }
        assert answers == {"journal_mode": "wal", "synchronous": level, "foreign_keys": 1}
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() > 1000
    engine.dispose()


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("part_class = 'a' AND verdict = 'fail'", "ix_inspections_part_class_verdict_id"),
        ("verdict = 'fail'", "ix_inspections_verdict_id"),
        ("station = 'a' AND verdict = 'fail'", "ix_inspections_station_verdict_id"),
        (
            "station = 'a' AND part_class = 'a' AND verdict = 'fail'",
            "ix_inspections_station_part_class_verdict_id",
        ),
        ("part_id = 'a'", "ix_inspections_part_id_id"),
        ("id >= '0192'", "PRIMARY KEY"),
    ],
)
def test_every_filter_finds_its_newest_page_by_an_index(tmp_path: Path, where: str, index: str) -> None:
    url = parse_url(None, tmp_path)
    engine = writing_engine(url, "full")
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    newest = f"FROM inspections WHERE {where} AND id < 'f' ORDER BY id DESC LIMIT 9"
    with sqlite3.connect(str(url.database)) as connection:
        plan = " ".join(row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN SELECT * {newest}"))
    connection.close()
    assert index in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    "wrong", ["ledger.sqlite3", "sqlite://", "sqlite:///:memory:", "mysql://anna:secret@host/parts", "", "://"]
)
def test_a_wrong_url_is_named_without_its_password(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="ledger") as caught:
        parse_url(wrong, tmp_path)
    assert "secret" not in str(caught.value)
    assert "postgresql://" in str(caught.value)


@pytest.mark.parametrize("given", ["postgresql://anna@host/parts", "postgresql+psycopg2://anna@host/parts"])
def test_postgresql_is_spoken_to_by_psycopg_3(given: str, tmp_path: Path) -> None:
    assert parse_url(given, tmp_path).drivername == "postgresql+psycopg"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(upgrade.__code__.co_filename).parent))
    return config
