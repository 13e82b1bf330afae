"""What a client was told is what the ledger keeps, whichever interface it asked by."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.service.conftest import RAW
from tests.service.ledger.stored import stored, stored_ids
from tests.service.running import RunningServer, running_server

URL = "/v1/inspections"


def row_of(data: Path, id_: str) -> dict[str, object]:
    names = [row[1] for row in stored(data, "PRAGMA table_info(inspections)")]
    (row,) = [row for row in stored(data, "SELECT * FROM inspections") if row[0] == id_]
    return dict(zip(names, row, strict=True))


def test_every_word_of_an_answer_is_in_the_ledger(
    recording_server: RunningServer, recording_data: Path, pictures: list[bytes], alien: bytes
) -> None:
    for picture in (*pictures[:3], alien):
        query = {"part_id": "P-1", "station": "press 3"}
        answer = recording_server.client.post(URL, params=query, content=picture, headers=RAW).json()
        row = row_of(recording_data, answer["id"])
        same = ("part_id", "score", "threshold", "verdict", "p_value", "part_class", "part_class_source")
        assert {name: row[name] for name in same} == {name: answer[name] for name in same}
        assert row["unknown_part"] == answer["unknown_part"]
        assert json.loads(str(row["regions"])) == answer["regions"]
        assert [row["engine_name"], row["engine_version"], row["precision"], row["backend"]] == list(
            answer["engine"].values()
        )
        assert {"width": row["width"], "height": row["height"]} == answer["image"]
        assert row["image_sha256"] == hashlib.sha256(picture).hexdigest()
        assert row["client"] == "127.0.0.1"
        assert row["station"] == "press 3"
        assert int(answer["id"][:12], 16) == int(str(row["time"])) // 1000
        milliseconds = {stage: round(float(str(row[f"{stage}_seconds"])) * 1000, 3) for stage in answer["timing_ms"]}
        assert milliseconds == answer["timing_ms"]


def test_an_answer_as_a_picture_is_recorded(
    recording_server: RunningServer, recording_data: Path, picture: bytes
) -> None:
    response = recording_server.client.post(URL, content=picture, headers={**RAW, "Accept": "image/png"})
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-unispect-id"] in stored_ids(recording_data)


def test_each_image_of_a_request_for_several_is_recorded(
    recording_server: RunningServer, recording_data: Path, pictures: list[bytes]
) -> None:
    files = [("file", (f"{i}.png", picture, "image/png")) for i, picture in enumerate(pictures[:4])]
    answer = recording_server.client.post(f"{URL}:batch", files=files).json()
    ids = [result["inspection"]["id"] for result in answer["results"]]
    assert len(ids) == 4
    assert set(ids) <= stored_ids(recording_data)


def test_images_that_are_refused_leave_no_record(recording_server: RunningServer, recording_data: Path) -> None:
    before = stored_ids(recording_data)
    assert recording_server.client.post(URL, content=b"no picture", headers=RAW).status_code == 415
    assert stored_ids(recording_data) == before


def test_commits_are_measured(recording_server: RunningServer, recording_data: Path, picture: bytes) -> None:
    assert recording_server.client.post(URL, content=picture, headers=RAW).status_code == 200
    lines = recording_server.client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("unispect_ledger_"))
    assert float(values["unispect_ledger_rows_total"]) == len(stored_ids(recording_data))
    assert 1 <= float(values["unispect_ledger_commit_seconds_count"]) <= len(stored_ids(recording_data))
    assert float(values["unispect_ledger_commit_seconds_sum"]) > 0


def test_a_service_that_stops_writes_what_it_accepted(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    def post(server: RunningServer) -> httpx.Response | None:
        try:
            return httpx.post(f"{server.url}{URL}?heatmap=overlay", content=picture, headers=RAW, timeout=60)
        except httpx.TransportError:
            return None

    with running_server(bundle_folder, tmp_path, "--decode-workers", "1") as server, ThreadPoolExecutor(16) as threads:
        futures = [threads.submit(post, server) for _ in range(16)]
        server.wait_for(lambda: len(stored_ids(tmp_path / "data")) >= 1)
        server.terminate()
        answers = [future.result() for future in futures]
        assert server.process.wait(timeout=30) == 0
    acknowledged = {answer.json()["id"] for answer in answers if answer and answer.is_success}
    assert acknowledged
    assert acknowledged == stored_ids(tmp_path / "data")
    assert not (tmp_path / "data" / "ledger.sqlite3-wal").exists()
