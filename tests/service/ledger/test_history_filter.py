"""Every filter finds what it should, and its page without looking through the ledger."""

import itertools
import random
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import URL

from benchmarks.filled_ledger import STATIONS, fill
from service.history import History
from service.history_filter import Filter
from service.ids import new_id
from service.ledger.database import parse_url, reading_engine
from service.ledger.records import InspectionRecord
from service.ledger.schema import reviews
from tests.service.ledger.records import make_record
from tests.service.ledger.test_history import make_records, reading, review_of, write

CLASSES = ("gear", "board", "screw")


def filters(spans: Iterable[tuple[int | None, int | None]]) -> list[Filter]:
    """Every combination that the form can make of a few values."""
    return [
        Filter(part_class, verdict, station, part_id, since, until, reviewed)
        for part_class, verdict, station, part_id, (since, until), reviewed in itertools.product(
            (None, "gear", "unknown"),
            (None, "pass", "fail"),
            (None, STATIONS[0]),
            (None, "P0000001"),
            spans,
            (None, True, False),
        )
    ]


def matches(wanted: Filter, record: InspectionRecord, reviewed: bool) -> bool:
    """What a filter means, said another way."""
    given = ("part_class", "verdict", "station", "part_id")
    return (
        all(getattr(wanted, name) in (None, getattr(record, name)) for name in given)
        and (wanted.since is None or record.time >= wanted.since)
        and (wanted.until is None or record.time < wanted.until)
        and wanted.reviewed in (None, reviewed)
    )


def test_every_combination_finds_what_it_says_from_every_place(url: URL) -> None:
    chance = random.Random(1)  # noqa: S311
    records = [
        replace(
            record,
            part_class=chance.choice(CLASSES),
            verdict=chance.choice(("pass", "pass", "review", "fail")),
            station=chance.choice((None, *STATIONS[:2])),
            part_id=chance.choice((None, "P0000001", "P0000002")),
        )
        for record in make_records(150)
    ]
    seen = {record.id for record in chance.sample(records, 40)}
    twice = [
        review_of(record, "ok", record.time + later) for record in records if record.id in seen for later in (1, 2)
    ]
    write(url, (reviews, [review.row() for review in twice]), records=records)
    middle = records[75]

    def read(history: History, _: object) -> None:
        for wanted in filters(((None, None), (records[20].time, records[120].time))):
            found = [record for record in records[::-1] if matches(wanted, record, record.id in seen)]
            older = [record for record in found if record.id < middle.id]
            newer = [record for record in found if record.id > middle.id]
            assert of(history.page(wanted, 9)) == found[:9], wanted
            assert of(history.page(wanted, 9, after=middle.id)) == older[:9], wanted
            assert of(history.page(wanted, 9, before=middle.id)) == newer[-9:], wanted

    def of(entries: list) -> list[InspectionRecord]:
        return [entry.record for entry in entries]

    reading(url, read)


def test_no_page_needs_a_look_at_the_whole_ledger(tmp_path: Path) -> None:
    count, reviewed = 10_000, 100
    ids = fill(tmp_path, CLASSES, count, reviewed)
    engine = reading_engine(parse_url(None, tmp_path))
    history, steps = History(engine), 0

    def step() -> None:
        nonlocal steps
        steps += 100

    with engine.connect() as connection:
        # It goes back to the pool, and from there to each query.
        driver: sqlite3.Connection = connection.connection.driver_connection
        driver.set_progress_handler(step, 100)
    history.page(Filter(), 51)
    usual, slowest = steps, (0, Filter())
    assert usual > 0
    first = int(ids[0][:12], 16) * 1000
    for wanted in filters(((None, None), (first + 10**9, None), (None, first + 10**9), (0, first))):
        for place in ({}, {"after": ids[count // 2]}, {"before": ids[count // 2]}):
            steps = 0
            history.page(wanted, 51, **place)
            slowest = max(slowest, (steps, wanted), key=lambda one: one[0])
    engine.dispose()
    # One instruction a row would be more; a filter by reviews looks at them.
    assert slowest[0] < 10 * usual < 10 * count, slowest


def test_part_classes_and_stations_are_listed_once_each(url: URL) -> None:
    given = [("gear", "S2"), ("board", None), ("gear", "S1"), ("board", "S2"), ("gear", "")]
    records = [make_record(part_class=name, station=station) for name, station in given]
    write(url, records=records)

    def read(history: History, _: object) -> None:
        assert history.part_classes() == ["board", "gear"]
        assert history.stations() == ["", "S1", "S2"]

    reading(url, read)


def test_many_stations_are_not_listed_all(url: URL) -> None:
    now = time.time_ns()
    records = [make_record(id=new_id(now + index), station=f"S{index:03d}") for index in range(300)]
    write(url, records=records)

    def read(history: History, _: object) -> None:
        assert history.stations() == [f"S{index:03d}" for index in range(200)]

    reading(url, read)


def test_nothing_has_no_names(url: URL) -> None:
    write(url, records=[])

    def read(history: History, _: object) -> None:
        assert (history.part_classes(), history.stations()) == ([], [])

    reading(url, read)
