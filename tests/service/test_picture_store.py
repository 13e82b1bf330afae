"""Which pictures are kept, how long, and that keeping them never gets in the way."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.heatmap import decode_map
from service.errors import StartError
from service.ids import new_id
from service.ledger.records import InspectionRecord
from service.picture_folder import PictureFolder
from service.picture_policy import PicturePolicy
from service.picture_store import PictureStore
from service.settings import read_settings
from tests.service.ledger.records import make_record

MAP = np.linspace(0.0, 2.5, 32 * 48, dtype=np.float32).reshape(32, 48)
DAY = 86_400.0


def picture_of(seed: int, format_: str = "PNG", side: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_)
    return buffer.getvalue()


def record_of(data: bytes, verdict: str = "fail") -> InspectionRecord:
    return make_record(verdict=verdict, image_sha256=hashlib.sha256(data).hexdigest())


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def outcomes(store: PictureStore) -> dict[str, float]:
    family = next(family for family in store.collect() if family.name == "unispect_pictures")
    return {sample.labels["outcome"]: sample.value for sample in family.samples if sample.value}


@pytest.fixture
def folder(tmp_path: Path) -> PictureFolder:
    return PictureFolder(tmp_path / "data")


def store_in(folder: PictureFolder, policy: str = "fails", **changed: float) -> PictureStore:
    options = {"quota_bytes": 2**30, "keep_seconds": 30 * DAY, "reserve_bytes": 0} | changed
    return PictureStore(folder, PicturePolicy.parse(policy), **options)


@pytest.fixture
def store(folder: PictureFolder) -> Iterator[PictureStore]:
    store = store_in(folder)
    store.start()
    yield store
    store.close()


@pytest.mark.parametrize(
    ("policy", "fails", "reviews", "passes"),
    [("none", 0, 0, 0), ("fails", 1, 1, 0), ("all", 1, 1, 1), ("sample:0.25", 1, 1, 0.25), ("sample:1", 1, 1, 1)],
)
def test_a_policy_keeps_its_share_of_each_verdict(policy: str, fails: float, reviews: float, passes: float) -> None:
    ids = [new_id() for _ in range(4000)]
    for verdict, share in (("fail", fails), ("review", reviews), ("pass", passes)):
        kept = sum(PicturePolicy.parse(policy).keeps(verdict, id_) for id_ in ids)
        # Within five standard deviations of a draw.
        assert kept / len(ids) == pytest.approx(share, abs=5 * (share * (1 - share) / len(ids)) ** 0.5)


@pytest.mark.parametrize("policy", ["", "some", "sample", "sample:", "sample:2", "sample:-1", "sample:nan", "fail"])
def test_a_policy_that_is_none_is_refused(policy: str) -> None:
    with pytest.raises(ValueError, match="sample:SHARE"):
        PicturePolicy.parse(policy)


def test_a_wrong_policy_keeps_the_service_from_starting() -> None:
    with pytest.raises(StartError, match=r"setting pictures is 'some'.*--pictures or UNISPECT_PICTURES"):
        read_settings(["--bundle", "x", "--pictures", "some"])
    assert read_settings(["--bundle", "x", "--pictures", "sample:0.1"]).pictures == "sample:0.1"


def test_the_picture_and_the_map_of_a_fail_are_kept_and_those_of_a_pass_are_not(folder: PictureFolder) -> None:
    store = store_in(folder)
    store.start()
    data, other = picture_of(1), picture_of(2)
    failed, passed = record_of(data), record_of(other, "pass")
    store.offer(failed, data, MAP)
    store.offer(passed, other, MAP)
    store.close()
    kept = folder.read_picture(failed.image_sha256)
    assert kept is not None
    assert (kept.data, kept.media_type) == (data, "image/png")
    png = folder.read_map(failed.id)
    assert png is not None
    np.testing.assert_allclose(decode_map(png), MAP, atol=float(MAP.max()) / 65535)
    assert folder.read_picture(passed.image_sha256) is None
    assert folder.read_map(passed.id) is None
    assert outcomes(store) == {"kept": 1}


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "MPO"])
def test_every_format_comes_back_as_it_was_sent(folder: PictureFolder, format_: str) -> None:
    data = picture_of(1, format_)
    digest = hashlib.sha256(data).hexdigest()
    folder.add_picture(digest, data)
    kept = folder.read_picture(digest)
    assert kept is not None and kept.data == data
    with Image.open(io.BytesIO(data)) as image:
        assert kept.media_type == Image.MIME["JPEG" if format_ == "MPO" else str(image.format)]


def test_a_picture_that_comes_twice_is_kept_once(folder: PictureFolder) -> None:
    store = store_in(folder)
    store.start()
    data = picture_of(1)
    for _ in range(3):
        store.offer(record_of(data), data, MAP)
    store.close()
    assert len(files(folder.root / "pictures")) == 1
    assert len(files(folder.root / "maps")) == 3


def test_the_oldest_go_when_the_quota_is_reached(folder: PictureFolder) -> None:
    pictures = [picture_of(seed) for seed in range(10)]
    quota = 5 * len(pictures[0])
    for age, data in enumerate(pictures):
        digest = hashlib.sha256(data).hexdigest()
        folder.add_picture(digest, data)
        path = next(folder.root.rglob(f"{digest}.*"))
        os.utime(path, (time.time() - 60 * age,) * 2)
    left = folder.sweep(quota, DAY)
    kept = [folder.read_picture(hashlib.sha256(data).hexdigest()) is not None for data in pictures]
    assert kept == sorted(kept, reverse=True)
    assert left == sum(path.stat().st_size for path in files(folder.root))
    assert 0.5 * quota < left <= quota


def test_a_store_above_its_quota_tidies_up_at_once(folder: PictureFolder) -> None:
    size = len(picture_of(0))
    store = store_in(folder, quota_bytes=10 * size)
    store.start()
    for seed in range(40):
        data = picture_of(seed)
        store.offer(record_of(data), data, MAP)
    deadline = time.monotonic() + 20
    while outcomes(store).get("kept") != 40 or sum(path.stat().st_size for path in files(folder.root)) > 10 * size:
        assert time.monotonic() < deadline, outcomes(store)
        time.sleep(0.02)
    store.close()


def test_what_is_too_old_goes_and_what_was_worked_on_stays(folder: PictureFolder) -> None:
    records = []
    for seed in range(2):
        data = picture_of(seed)
        records.append(record_of(data))
        folder.add_picture(records[-1].image_sha256, data)
        folder.add_map(records[-1].id, MAP)
    for path in files(folder.root):
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    store_in(folder).prolong(records[0])
    folder.sweep(2**30, 30 * DAY)
    assert folder.read_picture(records[0].image_sha256) and folder.read_map(records[0].id)
    assert not folder.read_picture(records[1].image_sha256) and not folder.read_map(records[1].id)


def test_what_a_crash_left_half_written_goes_and_what_is_being_written_stays(folder: PictureFolder) -> None:
    place = folder.root / "pictures" / "ab"
    place.mkdir(parents=True)
    old, new = place / ".half.old", place / ".half.new"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - DAY,) * 2)
    assert folder.sweep(2**30, 30 * DAY) == 0
    assert files(folder.root) == [new]


def test_nothing_is_kept_while_the_disk_has_less_than_the_reserve(folder: PictureFolder) -> None:
    store = store_in(folder, reserve_bytes=2**62)
    store.start()
    data = picture_of(1)
    store.offer(record_of(data), data, MAP)
    store.close()
    assert outcomes(store) == {"disk_full": 1}
    assert files(folder.root) == []


def test_who_is_behind_drops_and_counts_and_holds_little_memory(folder: PictureFolder) -> None:
    store = store_in(folder)
    data = bytes(8 * 2**20)
    record = record_of(data)
    start = time.perf_counter()
    for _ in range(100):
        store.offer(record, data, MAP)
    assert time.perf_counter() - start < 0.5
    waiting = next(family for family in store.collect() if family.name == "unispect_pictures_waiting_bytes")
    assert waiting.samples[0].value <= 64 * 2**20
    assert outcomes(store)["behind"] >= 92


def test_a_picture_larger_than_all_that_may_wait_is_kept(folder: PictureFolder) -> None:
    data = picture_of(1) + bytes(70 * 2**20)
    store = store_in(folder)
    store.offer(record_of(data), data, MAP)
    store.start()
    store.close()
    assert outcomes(store) == {"kept": 1}


def test_a_folder_that_cannot_be_written_is_told_once_and_used_again_once_mended(
    folder: PictureFolder, store: PictureStore, caplog: pytest.LogCaptureFixture
) -> None:
    folder.root.parent.mkdir(exist_ok=True)
    folder.root.write_text("A file where the folder should be.")
    data = picture_of(1)

    def offer_until(outcome: str, count: int) -> None:
        for _ in range(2):
            store.offer(record_of(data), data, MAP)
        deadline = time.monotonic() + 10
        while outcomes(store).get(outcome) != count:
            assert time.monotonic() < deadline, outcomes(store)
            time.sleep(0.01)

    caplog.set_level("INFO")
    offer_until("failed", 2)
    folder.root.unlink()
    offer_until("kept", 2)
    lines = [line.message for line in caplog.records if line.name == "service.picture_store"]
    assert len(lines) == 2
    assert "could not be kept" in lines[0]
    assert "again" in lines[1]
