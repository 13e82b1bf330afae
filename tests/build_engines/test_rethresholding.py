"""New thresholds keep their promise on the line that the parts were confirmed on, or are not set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from build_engines.errors import LedgerError
from build_engines.ledger import LedgerReader, Reviewed
from build_engines.rethresholding import Outcome, Rates, representative, rethreshold
from engines import bundle as bundles
from engines.bundle import Bundle
from engines.conformal import threshold
from engines.errors import ScoringError
from service.ledger.records import InspectionRecord
from tests.build_engines.ledgers import Entry, write_ledger
from tests.build_engines.test_cli import call
from tests.service.ledger.records import make_record


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return bundles.load(bundle_folder)


def judged(bundle: Bundle, part: str, score: float, number: int) -> InspectionRecord:
    limit = next(one.threshold for one in bundle.manifest.part_classes if one.name == part)
    return make_record(
        part_class=part,
        score=score,
        verdict="fail" if score > limit else "pass",
        image_sha256=f"{number:064x}",
        engine_name=bundle.manifest.name,
        engine_version=bundle.manifest.version,
    )


def line_of(bundle: Bundle, part: str, count: int, reviewed: float, seed: int) -> list[Entry]:
    """Good parts whose scores are around the threshold; all that failed were confirmed, and a share of the rest."""
    rng = np.random.default_rng(seed)
    limit = next(one.threshold for one in bundle.manifest.part_classes if one.name == part)
    entries: list[Entry] = []
    for number, score in enumerate(rng.normal(0.8, 0.15, count) * limit):
        record = judged(bundle, part, float(score), number + seed * 100_000)
        is_reviewed = record.verdict == "fail" or rng.random() < reviewed
        entries.append((record, ["ok"] if is_reviewed else []))
    return entries


def test_thresholds_come_from_confirmed_parts_as_the_line_makes_them(bundle: Bundle, tmp_path: Path) -> None:
    parts = bundle.manifest.part_classes
    lines = {part.name: line_of(bundle, part.name, 3000, 0.2, seed) for seed, part in enumerate(parts, 1)}
    ledger = LedgerReader(write_ledger(tmp_path, [entry for entries in lines.values() for entry in entries]))
    made, outcomes = rethreshold(bundle, ledger, Rates(0.02, 0.1), tmp_path / "new", "2")
    for before, after in zip(parts, made.manifest.part_classes, strict=True):
        scores = np.array([record.score for record, _ in lines[before.name]])
        confirmed = [record.score for record, labels in lines[before.name] if labels]
        # All that failed was reviewed, and a fifth of the rest: taken together they are nothing like the line.
        assert (np.array(confirmed) > before.threshold).mean() > 2 * (scores > before.threshold).mean()
        assert (scores > after.threshold).mean() == pytest.approx(0.02, abs=0.012)
        assert after.review is not None
        assert (scores > after.review.threshold).mean() == pytest.approx(0.1, abs=0.03)
        assert outcomes[before.name] == Outcome(len(confirmed), len(after.good_scores), None)
        assert set(after.good_scores) <= set(confirmed)
        assert after.pixel_threshold <= after.threshold
        assert (after.centroid, after.max_distance) == (before.centroid, before.max_distance)


def test_the_new_version_is_the_same_network_and_tells_where_its_thresholds_come_from(
    bundle: Bundle, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = bundle.manifest.part_classes
    ledger = write_ledger(tmp_path, line_of(bundle, first.name, 100, 1.0, 1))
    code, printed, error = call(capsys, "rethreshold", bundle_folder, "--from", ledger, "--out", tmp_path / "new")
    assert (code, error) == (0, "")
    assert f"{second.name} keeps the good scores that it had" in " ".join(printed.split())
    made = bundles.load(tmp_path / "new")
    assert (made.manifest.name, made.manifest.version) == (bundle.manifest.name, "2")
    assert made.manifest.files == bundle.manifest.files
    assert made.manifest.created > bundle.manifest.created
    changed, kept = made.manifest.part_classes
    assert kept == second
    assert changed.false_reject_rate == first.false_reject_rate
    assert made.manifest.metrics["rethreshold"] == {
        "bundle": f"{bundle.manifest.name} 1",
        "confirmed": {first.name: len(changed.good_scores)},
    }
    assert {path.name for path in (tmp_path / "new").iterdir()} == {bundles.MANIFEST, bundles.MODEL, bundles.GOLDEN}


def test_rates_alone_change_without_a_ledger(bundle: Bundle, tmp_path: Path) -> None:
    three, _ = rethreshold(bundle, None, Rates(review=0.5), tmp_path / "three", "2")
    for before, after in zip(bundle.manifest.part_classes, three.manifest.part_classes, strict=True):
        assert after.review is not None
        assert (after.review.rate, after.threshold, after.good_scores) == (0.5, before.threshold, before.good_scores)
        assert sum(score > after.review.threshold for score in after.good_scores) + 1 <= 0.5 * 7
    two, _ = rethreshold(three, None, Rates(review=0.0), tmp_path / "two", "3")
    assert two.manifest.part_classes == bundle.manifest.part_classes
    with pytest.raises(ScoringError, match=r"Class \w+ cannot have these rates .* there are 6"):
        rethreshold(bundle, None, Rates(0.01), tmp_path / "none", "2")
    assert not (tmp_path / "none").exists()


def reviewed(verdict: str, count: int, label: str = "ok", start: int = 0) -> list[Reviewed]:
    return [Reviewed(f"{start + i:064x}", "gear", verdict, float(start + i), label) for i in range(count)]


def test_what_was_reviewed_more_often_counts_no_more() -> None:
    good = [*reviewed("pass", 50), *reviewed("fail", 20, start=1000), *reviewed("fail", 20, "defect", start=2000)]
    scores = representative(good, {"pass": 500, "fail": 40})
    assert (scores < 1000).sum() == 50
    assert ((scores >= 1000) & (scores < 2000)).sum() == 2
    assert (scores >= 2000).sum() == 0
    assert scores.tolist() == sorted(scores)
    assert scores.tolist() == representative(good[::-1], {"pass": 500, "fail": 40}).tolist()


def test_false_rejects_do_not_vanish_among_few() -> None:
    good = [*reviewed("pass", 10), *reviewed("fail", 3, start=1000)]
    assert (representative(good, {"pass": 10_000, "fail": 3}) >= 1000).sum() == 1


def test_a_verdict_that_nobody_reviewed_gives_no_thresholds() -> None:
    with pytest.raises(LedgerError, match="Of 7 parts with the verdict review none was reviewed"):
        representative(reviewed("pass", 50), {"pass": 50, "review": 7})


def test_the_promise_holds_on_average_although_reviews_are_lopsided() -> None:
    """Mean share of good parts above the new threshold, over many lines; all confirmed parts would give far less."""
    rng = np.random.default_rng(0)
    shares, naive = [], []
    for _ in range(200):
        scores = rng.random(600)
        verdicts = np.where(scores > 0.9, "fail", "pass")
        seen = (verdicts == "fail") | (rng.random(600) < 0.25)
        found = [Reviewed(f"{i:064x}", "gear", str(verdicts[i]), float(scores[i]), "ok") for i in np.flatnonzero(seen)]
        counts = {verdict: int((verdicts == verdict).sum()) for verdict in ("pass", "fail")}
        taken = representative(found, counts)
        shares.append(1 - threshold(taken, 0.05))
        naive.append(1 - threshold(np.array([one.score for one in found]), 0.05))
    assert 0.04 < np.mean(shares) <= 0.05
    assert np.mean(naive) < 0.02


def test_a_ledger_that_gives_no_class_enough_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    first = bundle.manifest.part_classes[0].name
    few = [(judged(bundle, first, 0.1, 1), ["ok"]), (judged(bundle, first, 0.2, 2), ["ok"])]
    ledger = LedgerReader(write_ledger(tmp_path, few))
    with pytest.raises(LedgerError, match=f"No class gets other thresholds from .*{first}: .* there are 2"):
        rethreshold(bundle, ledger, Rates(), tmp_path / "new", "2")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("changed", [{"engine_version": "0"}, {"engine_name": "another"}, {"time": 1}])
def test_what_another_engine_said_is_not_taken(bundle: Bundle, tmp_path: Path, changed: dict[str, object]) -> None:
    first = bundle.manifest.part_classes[0].name
    entries = [(replace(record, **changed), labels) for record, labels in line_of(bundle, first, 50, 1.0, 1)]
    ledger = LedgerReader(write_ledger(tmp_path, entries))
    with pytest.raises(LedgerError, match="has no inspection by parts 1 since it was made"):
        rethreshold(bundle, ledger, Rates(), tmp_path / "new", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to change"),
        (["--from", "nowhere"], "There is no ledger nowhere"),
        (["--review-rate", "0.5", "--version", "a b"], "--version 'a b'"),
        (["--review-rate", "0.2"], "adds nothing to a false-reject rate"),
        (["--false-reject", "2"], "not between 0 and 1"),
    ],
)
def test_wrong_options(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code, _, error = call(capsys, "rethreshold", bundle_folder, "--out", tmp_path / "new", *options)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_the_bundle_itself_is_not_replaced(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (bundle_folder / bundles.MANIFEST).read_bytes()
    code, _, error = call(capsys, "rethreshold", bundle_folder, "--out", bundle_folder, "--review-rate", "0.5")
    assert code == 2
    assert "is the bundle itself" in error
    assert (bundle_folder / bundles.MANIFEST).read_bytes() == before
