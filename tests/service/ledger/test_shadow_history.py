"""How the shadow compares with the engine that serves, from the ledger, in both databases."""

import time

import pytest
from sqlalchemy import URL

from service import shadow_history
from service.engine_store import EngineId
from service.ids import new_id
from service.ledger.ledger import Ledger
from service.ledger.records import InspectionRecord
from service.ledger.schema import shadow_inspections
from service.shadow_history import Comparison, compare
from tests.service.ledger.records import make_record
from tests.service.ledger.test_history import write

SERVING, SHADOW = EngineId(name="parts", version="1"), EngineId(name="parts", version="2")
BEGIN = time.time_ns() - 3600 * 10**9


def seen(
    second: int, verdict: str, shadow: str, part_class: str = "gear", version: str = "1", shadow_version: str = "2"
) -> tuple[InspectionRecord, dict[str, object]]:
    """An inspection of that second, and what the shadow made of it."""
    at = BEGIN + second * 10**9
    record = make_record(
        id=new_id(at), time=at // 1000, verdict=verdict, part_class=part_class, engine_version=version, score=1.5
    )
    row = {
        "id": record.id,
        "engine_name": "parts",
        "engine_version": shadow_version,
        "score": 2.5,
        "threshold": 2.0,
        "p_value": 0.5,
        "verdict": shadow,
        "part_class": part_class,
    }
    return record, row


def compared(url: URL, *pairs: tuple[InspectionRecord, dict[str, object]]) -> Comparison:
    write(url, (shadow_inspections, [row for _, row in pairs]), records=[record for record, _ in pairs])
    ledger = Ledger(url)
    try:
        return compare(ledger.engine, SERVING, SHADOW)
    finally:
        ledger.engine.dispose()


def test_verdicts_are_counted_by_class_and_the_newest_disagreements_named(url: URL) -> None:
    pairs = [
        seen(1, "pass", "pass"),
        seen(2, "pass", "fail"),
        seen(3, "fail", "pass", part_class="board"),
        seen(4, "fail", "fail", part_class="board"),
        seen(5, "pass", "fail"),
        seen(6, "pass", "fail", version="0"),
        seen(7, "pass", "fail", shadow_version="3"),
    ]
    comparison = compared(url, *pairs)
    assert {name: dict(agreement.verdicts) for name, agreement in comparison.classes.items()} == {
        "board": {("fail", "pass"): 1, ("fail", "fail"): 1},
        "gear": {("pass", "pass"): 1, ("pass", "fail"): 2},
    }
    assert [(one.images, one.disagreements) for one in comparison.classes.values()] == [(2, 1), (3, 2)]
    assert [one.id for one in comparison.newest] == [pairs[index][0].id for index in (4, 2, 1)]
    newest, record = comparison.newest[0], pairs[4][0]
    assert (newest.time, newest.part_class) == (record.time, "gear")
    assert (newest.verdict, newest.score, newest.threshold) == ("pass", 1.5, record.threshold)
    assert (newest.shadow_verdict, newest.shadow_score, newest.shadow_threshold) == ("fail", 2.5, 2.0)


def test_looking_back_ends(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_history, "LATEST", 3)
    monkeypatch.setattr(shadow_history, "_NEWEST", 2)
    comparison = compared(url, *(seen(second, "pass", "fail") for second in range(5)))
    assert comparison.classes["gear"].images == 3
    assert len(comparison.newest) == 2


def test_what_nothing_saw_is_empty(url: URL) -> None:
    comparison = compared(url)
    assert (comparison.classes, comparison.newest) == ({}, [])
