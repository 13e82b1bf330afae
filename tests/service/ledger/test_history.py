"""What is read back from the ledger: pages, filters, reviews and statistics, in both databases."""

import asyncio
import csv
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import URL

from service.errors import LedgerFailed, UnknownInspection
from service.history import Entry, History, Review
from service.history_answers import csv_lines
from service.history_filter import Filter
from service.ids import new_id
from service.ledger.database import parse_url
from service.ledger.ledger import Ledger
from service.ledger.records import InspectionRecord
from service.ledger.schema import resets, reviews
from service.reading import ReadingThreads
from service.statistics import Statistics, StatisticsReader
from service.timing import Timing
from tests.service.ledger.records import make_record

SECOND = 1_000_000


def make_records(count: int, **changed: object) -> list[InspectionRecord]:
    """One a second, the last of them an hour ago."""
    begin = time.time_ns() - (3600 + count) * 10**9
    times = [begin + index * 10**9 for index in range(count)]
    return [make_record(id=new_id(at), time=at // 1000, **changed) for at in times]


def write(url: URL, *tables: tuple[object, list[dict[str, object]]], records: list[InspectionRecord]) -> None:
    async def scenario() -> None:
        ledger = Ledger(url)
        await ledger.start()
        await asyncio.gather(*(ledger.record(record) for record in records))
        for table, rows in tables:
            for row in rows:
                await ledger.insert(table, row)
        await ledger.close()

    asyncio.run(scenario())


def reading(url: URL, read: Callable[[History, StatisticsReader], None]) -> None:
    ledger = Ledger(url)
    try:
        read(History(ledger.engine), StatisticsReader(ledger.engine))
    finally:
        ledger.engine.dispose()


def review_of(record: InspectionRecord, label: str, at: int) -> Review:
    return Review(new_id(at * 1000), record.id, at, label, "seen by eye", "anna")


def ids(entries: list[Entry]) -> list[str]:
    return [entry.record.id for entry in entries]


def test_pages_have_each_inspection_once_the_newest_first(url: URL) -> None:
    records = make_records(7)
    write(url, records=records)

    def read(history: History, _: StatisticsReader) -> None:
        seen: list[InspectionRecord] = []
        after = None
        while page := history.page(Filter(), 3, after):
            seen += [entry.record for entry in page]
            after = page[-1].record.id
        assert seen == records[::-1]
        assert history.entry(records[2].id) == Entry(records[2], None)

    reading(url, read)


@pytest.mark.parametrize("unknown", ["0" * 32, "", "x", "\0", "A" * 32, "' OR 1=1 --"])
def test_an_unknown_id_is_told(url: URL, unknown: str) -> None:
    write(url, records=make_records(1))

    def read(history: History, _: StatisticsReader) -> None:
        with pytest.raises(UnknownInspection, match="no inspection"):
            history.entry(unknown)

    reading(url, read)


def test_each_filter_finds_its_inspections_and_all_together_those_that_meet_all(url: URL) -> None:
    records = make_records(6)
    records[0] = replace(records[0], part_class="board")
    records[1] = replace(records[1], verdict="pass")
    records[2] = replace(records[2], station="S1")
    records[3] = replace(records[3], part_id="P3", part_class="board")
    reviewed = review_of(records[4], "ok", records[4].time + SECOND)
    write(url, (reviews, [reviewed.row()]), records=records)
    expected = {
        Filter(part_class="board"): [3, 0],
        Filter(verdict="pass"): [1],
        Filter(station="S1"): [2],
        Filter(part_id="P3"): [3],
        Filter(reviewed=True): [4],
        Filter(reviewed=False): [5, 3, 2, 1, 0],
        Filter(since=records[4].time): [5, 4],
        Filter(since=records[4].time + 1): [5],
        Filter(until=records[1].time): [0],
        Filter(until=records[1].time + 1): [1, 0],
        Filter(since=records[1].time, until=records[3].time): [2, 1],
        Filter(part_class="board", verdict="fail", part_id="P3", since=0, until=2**62 // 1000, reviewed=False): [3],
        Filter(part_class="board", station="S1"): [],
    }

    def read(history: History, _: StatisticsReader) -> None:
        for wanted, indices in expected.items():
            assert ids(history.page(wanted, 50)) == [records[index].id for index in indices], wanted

    reading(url, read)


def test_the_latest_review_counts_and_all_are_kept(url: URL) -> None:
    records = make_records(2)
    first = review_of(records[0], "ok", records[0].time + SECOND)
    second = review_of(records[0], "defect", records[0].time + 2 * SECOND)
    write(url, (reviews, [first.row(), second.row()]), records=records)

    def read(history: History, _: StatisticsReader) -> None:
        assert history.page(Filter(), 2) == [Entry(records[1], None), Entry(records[0], second)]
        assert history.reviews(records[0].id) == [second, first]

    reading(url, read)


def test_what_came_after_an_inspection_lacks_none_that_was_committed_late(url: URL) -> None:
    records = make_records(200)

    def read(history: History, _: StatisticsReader) -> None:
        newer = history.newer(records[150].id, 1000)
        assert newer == sorted(newer, key=lambda record: record.id)
        assert records[150] not in newer
        assert set(ids_of(records[151:])) <= set(ids_of(newer))
        # Those of the minute before, which may have been committed after it.
        assert set(ids_of(records[92:150])) <= set(ids_of(newer))
        assert records[80].id not in ids_of(newer)
        assert history.newer(records[150].id, 5) == records[-5:]

    def ids_of(some: list[InspectionRecord]) -> list[str]:
        return [record.id for record in some]

    write(url, records=records)
    reading(url, read)


def timed(record: InspectionRecord, seconds: float) -> InspectionRecord:
    return replace(record, timing=Timing(total=seconds))


def test_statistics_are_those_of_all_inspections_old_and_new(url: URL) -> None:
    seconds = [0.00312, 0.5, 0.00754, 0.01201, 0.00999]
    old = [timed(record, value) for record, value in zip(make_records(5), seconds, strict=True)]
    old[3] = replace(old[3], verdict="pass")
    old[4] = replace(old[4], verdict="pass", part_class="board")
    new = [timed(make_record(verdict="review"), 0.02), timed(make_record(verdict="pass"), 0.001)]
    write(url, records=old)

    def read_twice(_: History, reader: StatisticsReader) -> None:
        first = reader.read()
        assert first.inspections == 5
        assert first.verdicts == {("gear", "fail"): 3, ("gear", "pass"): 1, ("board", "pass"): 1}
        check_times(first, seconds)
        write(url, records=new)
        second = reader.read()
        assert second.inspections == 7
        assert second.pass_rate == 3 / 7
        assert second.verdicts["gear", "review"] == 1
        check_times(second, [*seconds, 0.02, 0.001])
        assert reader.read() == second

    reading(url, read_twice)


def check_times(result: Statistics, seconds: list[float]) -> None:
    assert (result.shortest, result.longest) == (min(seconds), max(seconds))
    assert result.median == pytest.approx(statistics.median_low(seconds), abs=1e-5)


def test_a_reset_begins_the_statistics_anew(url: URL) -> None:
    records = make_records(10)
    rows = [{"id": new_id(at * 1000), "time": at, "client": "anna"} for at in (records[3].time, records[7].time)]

    def read(_: History, reader: StatisticsReader) -> None:
        assert reader.read().inspections == 10
        write(url, (resets, rows[:1]), records=[])
        assert (reader.read().since, reader.read().inspections) == (records[3].time, 7)
        write(url, (resets, rows[1:]), records=[])
        assert (reader.read().since, reader.read().inspections) == (records[7].time, 3)

    write(url, records=records)
    reading(url, read)


def test_statistics_of_nothing_are_none(url: URL) -> None:
    def read(_: History, reader: StatisticsReader) -> None:
        result = reader.read()
        assert result.inspections == 0
        assert (result.since, result.pass_rate, result.shortest, result.median, result.longest) == (None,) * 5

    write(url, records=[])
    reading(url, read)


def test_a_ledger_that_cannot_be_read_is_told_as_such(tmp_path: Path) -> None:
    ledger = Ledger(parse_url(None, tmp_path / "nowhere"))
    reading = ReadingThreads()
    with pytest.raises(LedgerFailed, match="cannot be read"):
        asyncio.run(reading.run(History(ledger.engine).page, Filter(), 1))
    reading.close()


def test_csv_holds_the_record_and_the_review_and_no_formula() -> None:
    formula = '=HYPERLINK("http://x";"y")'
    record = make_record(part_id=formula, station="S;1,\n2", score=-1.5)
    review = Review(new_id(), record.id, record.time, "ok", "+1", "anna")
    text = csv_lines([Entry(record, review), Entry(make_record(), None)], header=True)
    first, second = csv.DictReader(io.StringIO(text))
    assert first["part_id"] == f"'{formula}"
    assert first["review_note"] == "'+1"
    assert first["station"] == "S;1,\n2"
    assert float(first["score"]) == -1.5
    assert (first["id"], first["review"], first["reviewer"]) == (record.id, "ok", "anna")
    assert second["review"] == second["reviewer"] == ""
