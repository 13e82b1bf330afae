"""What the builder reads by name is what the service writes, in both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import URL

from build_engines.ledger import INSPECTIONS, REVIEWS, LedgerReader, Origin, Reviewed
from service.ledger.schema import inspections, reviews
from tests.build_engines.ledgers import write_ledger
from tests.service.ledger.records import make_record

HOUR = timedelta(hours=1)


def test_the_builder_asks_for_columns_that_there_are() -> None:
    for asked, written in ((INSPECTIONS, inspections), (REVIEWS, reviews)):
        assert asked.name == written.name
        assert {column.name for column in asked.columns} <= {column.name for column in written.columns}


def test_the_latest_review_of_each_image_counts(url: URL) -> None:
    first, second, third = (
        make_record(image_sha256=digit * 64, score=score) for digit, score in zip("abc", (1.0, 2.0, 3.0), strict=True)
    )
    again = make_record(image_sha256="a" * 64, score=4.0, verdict="pass")
    where = write_ledger(
        url, [(first, ["ok"]), (second, ["ok", "defect"]), (third, []), (again, ["ok", "defect", "ok"])]
    )
    found = LedgerReader(where).reviewed()
    assert sorted(found, key=lambda one: one.image_sha256) == [
        Reviewed("a" * 64, "gear", "pass", 4.0, "ok"),
        Reviewed("b" * 64, "gear", "fail", 2.0, "defect"),
    ]


def test_one_engine_is_told_from_others_and_from_its_namesake(url: URL) -> None:
    mine = make_record(image_sha256="a" * 64)
    other = make_record(image_sha256="b" * 64, engine_version="2")
    namesake = make_record(image_sha256="c" * 64, time=mine.time - 3_600_000_000)
    where = write_ledger(
        url, [(one, ["ok"]) for one in (mine, other, namesake)] + [(make_record(image_sha256="a" * 64), [])]
    )
    reader = LedgerReader(where)
    origin = Origin("parts", "1", datetime.now(UTC) - HOUR / 2)
    assert [one.image_sha256 for one in reader.reviewed(origin)] == ["a" * 64]
    assert reader.inspected(origin) == {("gear", "fail"): 1}
    assert reader.inspected(replace(origin, version="2")) == {("gear", "fail"): 1}
    assert reader.inspected(replace(origin, created=datetime.now(UTC) - 2 * HOUR)) == {("gear", "fail"): 2}
    assert len(reader.reviewed()) == 3
