"""What is said of two engines, on outputs whose answers are known."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from build_engines.reinspection.columns import AGAINST, table_of, to_parquet
from build_engines.reinspection.comparison import compare
from build_engines.reinspection.page import changes
from build_engines.reinspection.summary import summarise

Row = dict[str, object]


def judged(path: str, before: float, after: float, part: str = "gear", was: str | None = None) -> Row:
    """Both engines fail above 1, and the first one sends what is above 0.8 to review."""
    row: Row = {"path": path}
    for prefix, score, name in ((AGAINST, before, was or part), ("", after, part)):
        verdict = "fail" if score > 1 else "review" if prefix == AGAINST and score > 0.8 else "pass"
        values = {"part_class": name, "verdict": verdict, "score": score, "threshold": 1.0, "unknown_part": score > 2}
        row |= {prefix + column: value for column, value in values.items()}
    return row


def write(folder: Path, rows: list[Row], prefixes: tuple[str, ...] = ("", AGAINST)) -> Path:
    out = folder / "scores.parquet"
    out.write_bytes(to_parquet(table_of(rows, prefixes)))
    return out


def test_changes_of_verdict_are_counted_by_class(tmp_path: Path) -> None:
    rows = [
        judged("a", 0.1, 0.2),
        judged("b", 0.5, 1.4),
        judged("c", 0.9, 0.3),
        judged("d", 1.5, 3.0),
        judged("e", 1.5, 0.2, "nut"),
        judged("f", 0.4, 0.4, "nut", was="gear"),
    ]
    found = compare(write(tmp_path, rows))
    assert list(found.classes) == ["gear", "nut"]
    gear, nut = found.classes["gear"], found.classes["nut"]
    assert gear.verdicts == {("pass", "pass"): 1, ("pass", "fail"): 1, ("review", "pass"): 1, ("fail", "fail"): 1}
    assert (gear.images, gear.changed, gear.renamed, gear.judged("fail")) == (4, 2, 0, (1, 2))
    assert (nut.images, nut.changed, nut.renamed) == (2, 1, 1)
    assert (found.total.images, found.total.changed, found.total.renamed, found.failed) == (6, 3, 1, 0)
    assert changes(found.total) == [("pass", "fail"), ("review", "pass"), ("fail", "pass")]


def test_images_whose_verdict_changed_come_with_the_largest_change_first(tmp_path: Path) -> None:
    rows = [judged("a", 0.9, 1.1), judged("b", 0.1, 2.0), judged("c", 0.1, 0.7), judged("d", 3.0, 0.5)]
    changed = compare(write(tmp_path, rows)).changed
    assert changed["path"].to_pylist() == ["d", "b", "a"]
    assert changed.schema.names == pq.read_schema(tmp_path / "scores.parquet").names


def test_correlations_are_those_of_the_scores(tmp_path: Path) -> None:
    before = np.random.default_rng(0).random(50)
    rows = [judged(str(i), score, score**3) for i, score in enumerate(before)]
    rows += [judged(str(i), score, 0.5, "nut") for i, score in enumerate(before)]
    rows += [judged(str(i), score, score, "few") for i, score in enumerate(before[:2])]
    found = compare(write(tmp_path, rows)).classes
    assert found["gear"].spearman == pytest.approx(1.0)
    assert found["gear"].pearson == pytest.approx(np.corrcoef(before, before**3)[0, 1])
    assert (found["nut"].pearson, found["nut"].spearman) == (None, None)
    assert (found["few"].pearson, found["few"].spearman) == (None, None)


def test_images_that_one_engine_could_not_score_are_no_change(tmp_path: Path) -> None:
    half = {key: value for key, value in judged("b", 0.1, 1.4).items() if not key.startswith(AGAINST)}
    rows = [judged("a", 0.1, 1.4), {**half, "against_error": "no such class"}, {"path": "c", "error": "broken"}]
    found = compare(write(tmp_path, rows))
    assert (found.total.images, found.failed) == (1, 2)
    assert found.changed["path"].to_pylist() == ["a"]


def test_an_archive_of_broken_images_alone_is_summed_up_and_compared(tmp_path: Path) -> None:
    errors = {"error": "It is broken.", "against_error": "It is broken."}
    out = write(tmp_path, [{"path": path, **errors} for path in "abc"])
    found, summary = compare(out), summarise(out)
    assert (found.classes, found.failed, len(found.changed)) == ({}, 3, 0)
    assert (summary.classes, summary.errors, summary.examples) == ({}, 3, {"It is broken.": "c"})


def test_a_summary_is_of_the_engine_alone(tmp_path: Path) -> None:
    rows = [judged("a", 0, 0.2), judged("b", 0, 0.4), judged("c", 0, 2.5), {"path": "d", "error": "It is broken."}]
    summary = summarise(write(tmp_path, rows))
    gear = summary.classes["gear"]
    assert gear.verdicts == {"pass": 2, "fail": 1}
    assert (gear.images, gear.unknown, gear.median, gear.threshold) == (3, 1, 0.4, 1.0)
    assert summary.errors == 1
