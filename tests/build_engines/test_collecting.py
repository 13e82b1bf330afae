"""Reviewed images become a data folder that training takes."""

import hashlib
from pathlib import Path

import pytest

from build_engines.collecting import TEST_DEFECT, TEST_GOOD, TRAIN_GOOD, collect
from build_engines.data.folder import find_parts, find_tests
from build_engines.errors import DataError, LedgerError
from build_engines.ledger import LedgerReader
from service.ledger.records import InspectionRecord
from service.picture_folder import PictureFolder
from tests.build_engines.ledgers import write_ledger
from tests.build_engines.test_cli import call
from tests.service.ledger.records import make_record


@pytest.fixture(scope="module")
def images(parts_folder: Path) -> dict[str, list[bytes]]:
    """Two part classes with 30 good images each."""
    return {
        folder.name: [path.read_bytes() for path in sorted((folder / "train" / "good").iterdir())]
        for folder in sorted(parts_folder.iterdir())
    }


def record_of(part: str, image: bytes) -> InspectionRecord:
    return make_record(part_class=part, image_sha256=hashlib.sha256(image).hexdigest())


def service_folder(folder: Path, reviewed: list[tuple[str, bytes, list[str]]], kept: bool = True) -> str:
    """The data folder of a service that inspected images and kept them; returns its ledger."""
    for _, image, _ in reviewed if kept else []:
        PictureFolder(folder).add_picture(hashlib.sha256(image).hexdigest(), image)
    folder.mkdir(exist_ok=True)
    return write_ledger(folder, [(record_of(part, image), labels) for part, image, labels in reviewed])


def names_in(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*")}


def test_a_data_folder_is_made_of_what_was_reviewed(
    images: dict[str, list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reviewed = [(part, image, ["ok"]) for part, of_class in images.items() for image in of_class[:26]]
    reviewed += [(part, image, ["defect"]) for part, of_class in images.items() for image in of_class[26:29]]
    reviewed += [(part, of_class[29], []) for part, of_class in images.items()]
    ledger = service_folder(tmp_path / "service", reviewed)
    out = tmp_path / "data"
    code, printed, error = call(capsys, "collect", ledger, "--data-dir", tmp_path / "service", "--out", out)
    assert (code, error) == (0, "")
    assert all(part in printed for part in images)
    parts = {part.name: part for part in find_parts(out)}
    tests = find_tests(out, list(images))
    for name, of_class in images.items():
        digests = [hashlib.sha256(image).hexdigest() for image in of_class]
        good_tests = {test.path.stem for test in tests if test.part_class == name and test.is_good}
        trained = {path.stem for path in parts[name].train}
        assert trained | good_tests == set(digests[:26])
        assert not trained & good_tests
        assert {test.path.stem for test in tests if test.part_class == name and not test.is_good} == set(digests[26:29])
        for path in parts[name].train:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem


def test_a_second_call_moves_what_was_reviewed_otherwise_and_adds_what_is_new(
    images: dict[str, list[bytes]], tmp_path: Path
) -> None:
    part, of_class = next(iter(images.items()))
    digests = [hashlib.sha256(image).hexdigest() for image in of_class]
    service, out = tmp_path / "service", tmp_path / "data"
    first = [(part, image, ["ok"]) for image in of_class[:12]]
    collect(LedgerReader(service_folder(service, first)), service, out, 0.0)
    assert names_in(out / part / TRAIN_GOOD) == set(digests[:12])
    own = out / part / TRAIN_GOOD / "own.png"
    own.write_bytes(of_class[20])
    untouched = (out / part / TRAIN_GOOD / f"{digests[5]}.png").stat().st_mtime_ns
    # The picture of the first is no longer kept, and it is a defect after all; the second is said to be another part.
    later = [(part, of_class[0], ["defect"]), ("other", of_class[1], ["ok"]), (part, of_class[12], ["ok"])]
    ledger = service_folder(service, later)
    (service / "pictures" / digests[0][:2] / f"{digests[0]}.png").unlink()
    collected = collect(LedgerReader(ledger), service, out, 0.0)
    assert names_in(out / part / TEST_DEFECT) == {digests[0]}
    assert names_in(out / "other" / TRAIN_GOOD) == {digests[1]}
    assert names_in(out / part / TRAIN_GOOD) == {*digests[2:13], "own"}
    assert (out / part / TRAIN_GOOD / f"{digests[5]}.png").stat().st_mtime_ns == untouched
    assert collected.counts == {(part, TRAIN_GOOD): 11, (part, TEST_DEFECT): 1, ("other", TRAIN_GOOD): 1}
    assert collected.missing == collected.altered == []


def test_whether_an_image_is_for_testing_does_not_change_when_others_come(
    images: dict[str, list[bytes]], tmp_path: Path
) -> None:
    part, of_class = next(iter(images.items()))
    tested = []
    for count in (10, 30):
        service, out = tmp_path / f"service{count}", tmp_path / f"data{count}"
        ledger = service_folder(service, [(part, image, ["ok"]) for image in of_class[:count]])
        collect(LedgerReader(ledger), service, out, 0.5)
        tested.append(names_in(out / part / TEST_GOOD))
    early = {hashlib.sha256(image).hexdigest() for image in of_class[:10]}
    assert tested[0] == tested[1] & early
    assert 0 < len(tested[1]) < 30


def test_an_altered_picture_is_left_out(images: dict[str, list[bytes]], tmp_path: Path) -> None:
    part, of_class = next(iter(images.items()))
    ledger = service_folder(tmp_path / "service", [(part, image, ["ok"]) for image in of_class[:3]])
    first = next((tmp_path / "service" / "pictures").glob("*/*"))
    first.write_bytes(of_class[5])
    collected = collect(LedgerReader(ledger), tmp_path / "service", tmp_path / "data", 0.0)
    assert collected.altered == [first]
    assert first.stem not in names_in(tmp_path / "data" / part / TRAIN_GOOD)
    assert sum(collected.counts.values()) == 2


def test_nothing_to_collect_is_said(images: dict[str, list[bytes]], tmp_path: Path) -> None:
    part, of_class = next(iter(images.items()))
    unreviewed = service_folder(tmp_path / "a", [(part, of_class[0], [])])
    with pytest.raises(DataError, match=r"No inspection in .* was reviewed"):
        collect(LedgerReader(unreviewed), tmp_path / "a", tmp_path / "data", 0.2)
    not_kept = service_folder(tmp_path / "b", [(part, of_class[0], ["ok"])], kept=False)
    with pytest.raises(DataError, match="None of the 1 reviewed images is in"):
        collect(LedgerReader(not_kept), tmp_path / "b", tmp_path / "data", 0.2)
    assert not (tmp_path / "data").exists()


def test_no_name_in_a_ledger_leads_out_of_the_folder(images: dict[str, list[bytes]], tmp_path: Path) -> None:
    of_class = next(iter(images.values()))
    ledger = service_folder(tmp_path / "service", [("../../outside", of_class[0], ["ok"])])
    with pytest.raises(LedgerError, match="that no service wrote"):
        collect(LedgerReader(ledger), tmp_path / "service", tmp_path / "data", 0.2)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere.sqlite3", "There is no ledger nowhere.sqlite3"),
        ("sqlite:///nowhere.sqlite3", "There is no ledger nowhere.sqlite3"),
        ("mysql://x@y/z", "SQLite or PostgreSQL, not in mysql"),
        ("://", "is no URL"),
    ],
)
def test_what_is_no_ledger_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, message: str
) -> None:
    code, _, error = call(capsys, "collect", where, "--data-dir", tmp_path, "--out", tmp_path / "data")
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear" * 1000)
    with pytest.raises(LedgerError, match="cannot be read as a ledger"):
        LedgerReader(str(path)).reviewed()
    assert path.read_text() == "dear" * 1000
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(LedgerError, match="no such table"):
        LedgerReader(str(empty)).reviewed()
    assert empty.stat().st_size == 0
