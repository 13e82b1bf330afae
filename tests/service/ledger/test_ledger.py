"""What is recorded is in the database; on SQLite, and on PostgreSQL where it is installed."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import URL, create_engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError

from service.errors import LedgerFailed
from service.ids import new_id
from service.ledger.ledger import Ledger
from service.ledger.schema import inspections, metadata, resets, reviews
from tests.service.ledger.records import make_record


@asynccontextmanager
async def open_ledger(url: URL) -> AsyncIterator[Ledger]:
    ledger = Ledger(url)
    await ledger.start()
    assert ledger.problem is None
    yield ledger
    await ledger.close()


def count(url: URL, table=inspections) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(select(func.count()).select_from(table)).scalar_one()
    engine.dispose()
    return rows


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"part_id": None, "station": "Linie 2 'x'; --", "client": None, "verdict": "pass", "regions": ()},
        {"unknown_part": True, "part_class_source": "given", "verdict": "review", "score": float("inf")},
    ],
)
def test_what_is_recorded_is_read_back_the_same(url: URL, changed: dict[str, object]) -> None:
    async def scenario() -> None:
        record = make_record(**changed)
        async with open_ledger(url) as ledger:
            await ledger.record(record)
            assert ledger.find(record.id) == record
            assert ledger.find(new_id()) is None
        async with open_ledger(url) as ledger:
            assert ledger.find(record.id) == record

    asyncio.run(scenario())


def test_it_is_in_the_database_before_record_returns(url: URL) -> None:
    async def scenario() -> None:
        async with open_ledger(url) as ledger:
            for recorded in range(1, 4):
                await ledger.record(make_record())
                assert count(url) == recorded

    asyncio.run(scenario())


def test_what_waits_is_committed_together(url: URL) -> None:
    async def scenario() -> list[int]:
        groups: list[int] = []
        ledger = Ledger(url)
        ledger.on_commit(lambda rows, seconds: groups.append(rows if seconds > 0 else -1))
        await ledger.start()
        await asyncio.gather(*(ledger.record(make_record()) for _ in range(200)))
        await ledger.close()
        return groups

    groups = asyncio.run(scenario())
    assert sum(groups) == 200
    assert len(groups) < 20
    assert count(url) == 200


def test_a_row_that_the_database_refuses_takes_no_other_with_it(url: URL) -> None:
    async def scenario() -> None:
        async with open_ledger(url) as ledger:
            wrong = replace(make_record(), verdict="perhaps")
            outcomes = await asyncio.gather(
                *(ledger.record(record) for record in (make_record(), wrong, make_record())), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [type(None), LedgerFailed, type(None)]
            assert ledger.problem is None
            with pytest.raises(LedgerFailed):
                await ledger.insert(reviews, review_of(new_id()))
            await ledger.record(make_record())

    asyncio.run(scenario())
    assert count(url) == 3
    assert count(url, reviews) == 0


def review_of(inspection_id: str) -> dict[str, object]:
    return {
        "id": new_id(),
        "inspection_id": inspection_id,
        "time": 1,
        "label": "ok",
        "note": "scratch is on the camera",
        "reviewer": "anna",
    }


def test_all_reviews_of_an_inspection_are_kept(url: URL) -> None:
    async def scenario() -> None:
        async with open_ledger(url) as ledger:
            record = make_record()
            both = [review_of(record.id), review_of(record.id) | {"label": "defect", "note": None}]
            await asyncio.gather(ledger.record(record), *(ledger.insert(reviews, review) for review in both))
            with ledger.engine.connect() as connection:
                rows = connection.execute(select(reviews).order_by(reviews.c.id)).mappings().all()
            assert sorted(map(dict, rows), key=lambda row: row["id"]) == sorted(both, key=lambda row: row["id"])

    asyncio.run(scenario())


def test_what_is_there_already_is_not_written_again(url: URL) -> None:
    async def scenario() -> None:
        async with open_ledger(url) as ledger:
            record = make_record()
            await ledger.record(record)
            await ledger.record(replace(record, score=99.0))
            assert ledger.find(record.id) == record

    asyncio.run(scenario())
    assert count(url) == 1


def test_closing_writes_what_waits_and_then_refuses(url: URL) -> None:
    async def scenario() -> None:
        ledger = Ledger(url)
        await ledger.start()
        waiting = [asyncio.ensure_future(ledger.record(make_record())) for _ in range(50)]
        await asyncio.sleep(0)
        await ledger.close()
        assert all(future.done() and future.exception() is None for future in waiting)
        with pytest.raises(LedgerFailed):
            await ledger.record(make_record())

    asyncio.run(scenario())
    assert count(url) == 50


def test_other_threads_hand_rows_over_without_waiting(url: URL, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with open_ledger(url) as ledger:

            def hand_over() -> None:
                ledger.submit(reviews, review_of(new_id()))
                for _ in range(10):
                    ledger.submit(resets, {"id": new_id(), "time": 1, "client": None})

            threads = [threading.Thread(target=hand_over) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert count(url, resets) == 40
    assert "1 rows that nobody waits for" in caplog.text


def test_nothing_can_be_written_by_the_engine_for_readers(url: URL) -> None:
    async def scenario() -> None:
        async with open_ledger(url) as ledger:
            await ledger.record(make_record())
            with ledger.engine.connect() as connection, pytest.raises(DBAPIError, match=r"read-?only"):
                connection.execute(inspections.delete())

    asyncio.run(scenario())
    assert count(url) == 1


def test_readers_see_one_moment_while_others_write(url: URL) -> None:
    async def scenario() -> None:
        async with open_ledger(url) as ledger:
            await ledger.record(make_record())
            options = {"isolation_level": "REPEATABLE READ"} if url.get_backend_name() == "postgresql" else {}
            with ledger.engine.connect().execution_options(**options) as connection:
                before = connection.execute(select(func.count()).select_from(inspections)).scalar_one()
                await asyncio.wait_for(ledger.record(make_record()), 5)
                again = connection.execute(select(func.count()).select_from(inspections)).scalar_one()
            assert before == again == 1

    asyncio.run(scenario())
    assert count(url) == 2


def test_a_ledger_of_a_newer_version_is_left_alone(url: URL) -> None:
    async def scenario() -> str | None:
        async with open_ledger(url) as ledger:
            await ledger.record(make_record())
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'of the future'"))
        engine.dispose()
        newer = Ledger(url)
        await newer.start()
        with pytest.raises(LedgerFailed):
            newer.check()
        problem = newer.problem
        await newer.close()
        return problem

    problem = asyncio.run(scenario())
    assert problem is not None
    assert "of the future" in problem
    assert count(url) == 1


def test_a_start_that_is_cut_short_leaves_no_half_of_the_tables(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = command.upgrade

    def upgrade_and_fail(*arguments: object) -> None:
        upgrade(*arguments)
        raise OSError("The power is gone.")

    async def scenario() -> None:
        ledger = Ledger(url)
        monkeypatch.setattr(command, "upgrade", upgrade_and_fail)
        await ledger.start()
        assert "The power is gone" in str(ledger.problem)
        engine = create_engine(url)
        assert inspect(engine).get_table_names() == []
        monkeypatch.undo()
        async with asyncio.timeout(30):
            while (problem := ledger.problem) is not None:
                assert "The power is gone" in problem
                await asyncio.sleep(0.05)
        await ledger.record(make_record())
        await ledger.close()
        assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
        engine.dispose()

    asyncio.run(scenario())
    assert count(url) == 1
