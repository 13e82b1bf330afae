"""Statistics that are counted in parts, and scores by steps of the threshold."""

from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import URL

import service.statistics
from service.distribution import STEPS, STEPS_PER_THRESHOLD
from service.history import History
from service.ids import new_id
from service.latency import NEWEST, newest_stage_times
from service.ledger.ledger import Ledger
from service.ledger.schema import resets
from service.statistics import StatisticsReader
from service.timing import STAGES, Timing
from tests.service.ledger.records import make_record
from tests.service.ledger.test_history import make_records, reading, write

LAST = STEPS - 1


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.statistics, "_CHUNK", 3)


def test_who_does_not_wait_gets_the_newest_and_the_rest_later(url: URL) -> None:
    records = [replace(record, verdict="pass" if at < 8 else "fail") for at, record in enumerate(make_records(10))]
    write(url, records=records)

    def read(_: History, reader: StatisticsReader) -> None:
        found = [reader.read(0.0) for _ in range(5)]
        assert [(one.inspections, one.complete) for one in found] == [
            (3, False),
            (6, False),
            (9, False),
            (10, True),
            (10, True),
        ]
        assert found[0].verdicts == {("gear", "fail"): 2, ("gear", "pass"): 1}
        assert found[-1] == reader.read()

    reading(url, read)


def test_what_comes_while_some_are_left_is_counted_once(url: URL) -> None:
    write(url, records=make_records(10))

    def read(_: History, reader: StatisticsReader) -> None:
        assert reader.read(0.0).inspections == 3
        write(url, records=[make_record(), make_record()])
        assert reader.read(0.0).inspections == 8
        assert reader.read().inspections == 12
        assert reader.read(0.0).complete

    reading(url, read)


def test_a_reset_leaves_nothing_of_what_was_being_counted(url: URL) -> None:
    records = make_records(10)
    write(url, records=records)

    def read(_: History, reader: StatisticsReader) -> None:
        assert not reader.read(0.0).complete
        at = records[8].time
        write(url, (resets, [{"id": new_id(at * 1000), "time": at, "client": None}]), records=[])
        statistics = reader.read(0.0)
        assert (statistics.inspections, statistics.complete, statistics.since) == (2, True, at)

    reading(url, read)


@pytest.mark.parametrize(
    ("score", "threshold", "step"),
    [
        (0.0, 0.5, 0),
        (-3.0, 0.5, 0),
        (1e-12, 0.5, 0),
        (0.5, 0.5, STEPS_PER_THRESHOLD - 1),
        (0.5000001, 0.5, STEPS_PER_THRESHOLD),
        (0.475, 0.5, STEPS_PER_THRESHOLD - 2),
        (0.49, 0.5, STEPS_PER_THRESHOLD - 1),
        (1.0, 0.5, LAST),
        (7.0, 0.5, LAST),
        (1e300, 1e-300, LAST),
        (0.1, 0.0, None),
        (0.1, -1.0, None),
    ],
)
def test_a_score_is_counted_in_its_step_of_the_threshold(
    url: URL, score: float, threshold: float, step: int | None
) -> None:
    write(url, records=[make_record(score=score, threshold=threshold)])

    def read(_: History, reader: StatisticsReader) -> None:
        assert reader.read().scores == Counter({("gear", "fail", step): 1})

    reading(url, read)


def test_the_times_of_the_stages_are_of_the_newest_inspections(url: URL) -> None:
    old = make_record(id=new_id(1), timing=Timing(9.0, 9.0, 9.0, 9.0, 9.0))
    times = [Timing(0.001 * step, 0.0, 0.002, 0.0, 0.01 * step) for step in range(1, NEWEST + 1)]
    ledger = Ledger(url)
    try:
        write(url, records=[])
        assert newest_stage_times(ledger.engine) == []
        write(url, records=[old, *(make_record(timing=timing) for timing in times)])
        found = {stage.stage: stage for stage in newest_stage_times(ledger.engine)}
    finally:
        ledger.engine.dispose()
    assert tuple(found) == STAGES
    decode, inference = found["decode"], found["inference"]
    assert decode.median == pytest.approx(0.001 * (NEWEST + 1) / 2)
    assert decode.p95 == pytest.approx(0.001 * 0.95 * NEWEST, rel=1e-3)
    assert decode.longest == pytest.approx(0.001 * NEWEST)
    assert (inference.median, inference.longest) == (0.002, 0.002)
