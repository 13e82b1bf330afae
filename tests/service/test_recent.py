"""The newest pictures in memory: which are there, and that they never take more room than they may."""

import numpy as np

from service.ids import new_id
from service.recent import RecentPictures
from tests.service.ledger.records import make_record

MAP = np.ones((4, 4), np.float32)


def add(recent: RecentPictures, data: bytes = b"picture", anomaly_map: np.ndarray = MAP) -> str:
    record = make_record(id=new_id())
    recent.add(record, data, anomaly_map)
    return record.id


def test_the_newest_are_found_and_the_oldest_go() -> None:
    recent = RecentPictures(most=3)
    ids = [add(recent, bytes([number])) for number in range(5)]
    assert [recent.find(id_) is not None for id_ in ids] == [False, False, True, True, True]
    found = recent.find(ids[-1])
    assert found is not None and (found.record.id, found.data) == (ids[-1], b"\4")
    assert np.array_equal(found.anomaly_map, MAP)
    assert recent.find("0" * 32) is None


def test_as_many_go_as_the_new_one_needs_room() -> None:
    recent = RecentPictures(most_bytes=10_000)
    small = [add(recent, b"x" * 3000) for _ in range(3)]
    large = add(recent, b"x" * 6500)
    assert [recent.find(id_) is not None for id_ in (*small, large)] == [False, False, True, True]


def test_what_is_larger_than_all_the_room_is_not_kept_and_drives_nothing_out() -> None:
    recent = RecentPictures(most_bytes=10_000)
    small = add(recent, b"x" * 3000)
    assert recent.find(add(recent, b"x" * 10_001)) is None
    assert recent.find(small) is not None


def test_a_map_does_not_keep_the_batch_that_it_came_in() -> None:
    recent = RecentPictures()
    batch = np.ones((8, 64, 64), np.float32)
    found = recent.find(add(recent, anomaly_map=batch[3]))
    assert found is not None and found.anomaly_map.base is None
