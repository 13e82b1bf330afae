"""A part's picture that is sent again gets the recorded result, and is not counted twice."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from engines.scoring import Inspection
from service.jobs import Result
from service.ledger.database import parse_url
from service.ledger.ledger import Ledger
from service.ledger.repeats import Repeats, key_of
from service.recorder import Asked, Recorder
from tests.service.conftest import RAW
from tests.service.ledger.records import make_record
from tests.service.ledger.stored import stored, stored_ids
from tests.service.running import RunningServer, running_server

REPEATED = "x-unispect-repeated"


def post(server: RunningServer, picture: bytes, **query: str) -> httpx.Response:
    response = server.client.post("/v1/inspections", params=query, content=picture, headers=RAW)
    assert response.status_code == 200, response.text
    return response


def test_a_repeated_part_gets_the_recorded_result(
    recording_server: RunningServer, picture: bytes, recording_data: Path
) -> None:
    first = post(recording_server, picture, part_id="once", station="line 2")
    again = post(recording_server, picture, part_id="once", station="line 2")
    assert REPEATED not in first.headers
    assert again.headers[REPEATED] == "true"
    assert again.json() == first.json()
    rows = stored(recording_data, "SELECT id, station, verdict, client FROM inspections WHERE part_id = 'once'")
    assert rows == [(first.json()["id"], "line 2", first.json()["verdict"], "127.0.0.1")]


def test_repeated_parts_are_counted_once(recording_server: RunningServer, picture: bytes) -> None:
    def passed_and_failed() -> float:
        lines = recording_server.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("unispect_verdicts_total"))

    before = passed_and_failed()
    for _ in range(3):
        post(recording_server, picture, part_id="counted")
    assert passed_and_failed() == before + 1


def test_another_picture_class_or_part_is_inspected(
    recording_server: RunningServer, pictures: list[bytes], manifest
) -> None:
    answers = [
        post(recording_server, pictures[0], part_id="other"),
        post(recording_server, pictures[1], part_id="other"),
        post(recording_server, pictures[0], part_id="other", part_class=manifest.part_classes[0].name),
        post(recording_server, pictures[0], part_id="another"),
        post(recording_server, pictures[0]),
        post(recording_server, pictures[0]),
    ]
    assert all(REPEATED not in answer.headers for answer in answers)
    assert len({answer.json()["id"] for answer in answers}) == len(answers)


def test_a_heatmap_is_drawn_of_a_repeated_part_too(recording_server: RunningServer, picture: bytes) -> None:
    first = post(recording_server, picture, part_id="map", heatmap="map").json()
    plain = post(recording_server, picture, part_id="map").json()
    again = post(recording_server, picture, part_id="map", heatmap="map").json()
    assert plain["heatmap"] is None
    assert again == first
    assert plain == first | {"heatmap": None, "heatmap_scale": None}


def test_a_part_sent_again_before_its_answer_came_is_inspected_once(
    recording_server: RunningServer, large_picture: bytes, recording_data: Path
) -> None:
    def send(_: int) -> httpx.Response:
        return httpx.post(
            f"{recording_server.url}/v1/inspections",
            params={"part_id": "impatient"},
            content=large_picture,
            headers=RAW,
            timeout=60,
        )

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(send, range(6)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(REPEATED in answer.headers for answer in answers) == 5
    assert stored(recording_data, "SELECT count(*) FROM inspections WHERE part_id = 'impatient'") == [(1,)]


def test_a_picture_that_was_refused_is_refused_again(recording_server: RunningServer) -> None:
    for _ in range(2):
        refused = recording_server.client.post("/v1/inspections?part_id=broken", content=b"\xff\xd8\xff", headers=RAW)
        assert refused.status_code in (415, 422)


def test_parts_are_known_after_a_new_start(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        first = post(server, picture, part_id="a").json()
        server.process.kill()
        server.process.wait()
    with running_server(bundle_folder, tmp_path) as server:
        again = post(server, picture, part_id="a")
        assert again.headers[REPEATED] == "true"
        assert again.json() == first
    assert stored_ids(tmp_path / "data") == {first["id"]}


@pytest.mark.parametrize(("seconds", "inspections"), [(0, 2), (600, 1)])
def test_parts_are_always_inspected_where_repeats_are_switched_off(
    seconds: float, inspections: int, tmp_path: Path
) -> None:
    record = make_record()

    def inspect() -> asyncio.Future[Result]:
        made: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        inspection = Inspection(
            **{name: getattr(record, name) for name in Inspection.__slots__ if name != "anomaly_map"},
            anomaly_map=np.zeros((2, 2), np.float32),
        )
        made.set_result(Result(inspection, record.width, record.height, None, record.timing, record.engine))
        return made

    async def scenario() -> None:
        ledger = Ledger(parse_url(None, tmp_path))
        recorder = Recorder(ledger, seconds)
        await ledger.start()
        asked = Asked(None, "a", None, None, whole=False)
        answers = [await recorder.inspect(b"picture", asked, inspect) for _ in range(2)]
        assert len({kept.id for kept, _ in answers}) == inspections
        assert [result.repeated for _, result in answers] == [False, inspections == 1]
        await ledger.close()

    asyncio.run(scenario())
    assert len(stored_ids(tmp_path)) == inspections


@pytest.mark.parametrize("station", ["", "x" * 65, "a\tb"])
def test_a_wrong_station_is_refused(recording_server: RunningServer, picture: bytes, station: str) -> None:
    refused = recording_server.client.post("/v1/inspections", params={"station": station}, content=picture, headers=RAW)
    assert refused.status_code == 422
    assert "station" in refused.json()["detail"]


def test_a_part_is_forgotten_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("service.ledger.repeats.time.monotonic", lambda: now)
    repeats = Repeats(600)
    key = key_of("a", None, "0" * 64)
    repeats.remember(key, "first")
    now += 599
    assert asyncio.run(repeats.find(key)) == "first"
    now += 2
    assert asyncio.run(repeats.find(key)) is None


def test_who_waits_for_an_inspection_that_fails_makes_its_own() -> None:
    async def scenario() -> None:
        repeats = Repeats(600)
        key = key_of("a", None, "0" * 64)
        with repeats.running(key):
            waiting = asyncio.ensure_future(repeats.find(key))
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting is None

    asyncio.run(scenario())


def test_parts_that_look_alike_have_other_keys() -> None:
    sha256 = "0" * 64
    asked = [("a", None), ("a", ""), ("a", "gear"), ("agear", None), ("a.gear", None), ("b", None)]
    assert len({key_of(part_id, part_class, sha256) for part_id, part_class in asked}) == len(asked)
