"""The history over HTTP: pages, pictures, reviews, statistics and the live stream of a real server."""

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.history_answers import DetailAnswer, PageAnswer, RecordedAnswer, StatisticsAnswer
from service.recent import MOST
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server
from tests.service.test_problems import check

URL = "/v1/inspections"


@pytest.fixture(scope="module")
def keeper(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that keeps the pictures of fails and passes."""
    with running_server(bundle_folder, tmp_path_factory.mktemp("keeper"), "--pictures", "all") as running:
        yield running


def inspect(server: RunningServer, data: bytes, **query: str) -> dict:
    response = server.client.post(URL, params=query, content=data, headers=RAW)
    assert response.status_code == 200, response.text
    return response.json()


def forget_recent(server: RunningServer, data: bytes) -> None:
    """Have so many inspected that the pictures before are not in memory any more."""
    for _ in range(MOST + 1):
        inspect(server, data)


def get(server: RunningServer, path: str, **query: str | int) -> httpx.Response:
    return server.client.get(path, params=query)


def test_an_inspection_is_in_the_history_as_it_was_answered(keeper: RunningServer, alien: bytes) -> None:
    before = datetime.now(UTC)
    answer = inspect(keeper, alien, part_id="P1", station="S1")
    recorded = get(keeper, f"{URL}/{answer['id']}").json()
    DetailAnswer.model_validate(recorded, strict=False)
    shared = answer.keys() & recorded.keys()
    assert shared == answer.keys() - {"heatmap", "heatmap_scale"}
    assert {name: recorded[name] for name in shared} == {name: answer[name] for name in shared}
    assert before <= datetime.fromisoformat(recorded["time"]) <= datetime.now(UTC)
    assert (recorded["station"], recorded["image_sha256"]) == ("S1", hashlib.sha256(alien).hexdigest())
    assert (recorded["review"], recorded["reviews"]) == (None, [])


def test_pages_follow_each_other_until_the_last(keeper: RunningServer, picture: bytes) -> None:
    given = [inspect(keeper, picture, station="paging")["id"] for _ in range(5)]
    seen: list[str] = []
    query: dict[str, str | int] = {"station": "paging", "limit": 2}
    for remaining in (3, 1, 0):
        page = get(keeper, URL, **query).json()
        PageAnswer.model_validate(page)
        seen += [entry["id"] for entry in page["inspections"]]
        assert (page["next"] is None) == (remaining == 0)
        query["after"] = page["next"]
    assert seen == given[::-1]


def test_a_span_of_time_is_a_filter(keeper: RunningServer, picture: bytes) -> None:
    first, second = (inspect(keeper, picture, station="spans")["id"] for _ in range(2))
    moment = get(keeper, f"{URL}/{second}").json()["time"]
    for span, expected in ({"from": moment}, [second]), ({"to": moment}, [first]):
        page = get(keeper, URL, station="spans", **span).json()
        assert [entry["id"] for entry in page["inspections"]] == expected


def test_all_of_time_is_a_span(keeper: RunningServer, picture: bytes) -> None:
    inspect(keeper, picture, station="ever")
    span = {"from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}
    assert len(get(keeper, URL, station="ever", **span).json()["inspections"]) == 1


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"after": "x"},
        {"from": "yesterday"},
        {"verdict": "bad"},
        {"station": "a\0b"},
        {"statoin": "S1"},
    ],
)
def test_a_wrong_filter_is_named(keeper: RunningServer, query: dict[str, str]) -> None:
    assert next(iter(query)) in check(get(keeper, URL, **query), 422, "invalid-request")["detail"]


def test_an_unknown_inspection_is_told_everywhere(keeper: RunningServer) -> None:
    for id_ in ("0" * 32, "nothing", "%00"):
        for path in ("", "/image", "/heatmap"):
            check(keeper.client.get(f"{URL}/{id_}{path}"), 404, "unknown-inspection")
        response = keeper.client.post(f"{URL}/{id_}/review", json={"label": "ok"})
        check(response, 404, "unknown-inspection")


def test_the_picture_and_its_heatmaps_are_kept(keeper: RunningServer, alien: bytes) -> None:
    answer = inspect(keeper, alien, heatmap="overlay")
    path = f"{URL}/{answer['id']}"
    forget_recent(keeper, alien)
    keeper.wait_for(lambda: get(keeper, f"{path}/heatmap").status_code == 200)
    image = get(keeper, f"{path}/image")
    assert (image.content, image.headers["content-type"]) == (alien, "image/jpeg")
    overlay = Image.open(io.BytesIO(get(keeper, f"{path}/heatmap").content))
    assert (overlay.format, overlay.mode, overlay.size) == ("PNG", "RGB", (300, 200))
    levels = Image.open(io.BytesIO(get(keeper, f"{path}/heatmap", kind="map").content))
    peak = np.asarray(levels).max() / 65535 * float(levels.text["unispect:scale"])
    assert peak == pytest.approx(max(region["peak"] for region in answer["regions"]), rel=1e-4)


def test_the_pictures_of_passes_are_not_kept_unless_asked(
    server: RunningServer, pictures: list[bytes], alien: bytes
) -> None:
    answers = [inspect(server, data) for data in pictures]
    passed = next(answer for answer in answers if answer["verdict"] == "pass")
    failed = inspect(server, alien)
    forget_recent(server, alien)
    # One after the other: what came before it would have been written too.
    server.wait_for(lambda: get(server, f"{URL}/{failed['id']}/heatmap").status_code == 200)
    for path in ("/image", "/heatmap"):
        check(get(server, f"{URL}/{passed['id']}{path}"), 404, "picture-not-kept")


def test_the_newest_pictures_can_be_seen_whatever_is_kept_of_them(server: RunningServer, pictures: list[bytes]) -> None:
    passed = next((data, found) for data in pictures if (found := inspect(server, data))["verdict"] == "pass")
    data, answer = passed
    path = f"{URL}/{answer['id']}"
    server.wait_for(lambda: get(server, f"{path}/image").status_code == 200)
    image = get(server, f"{path}/image")
    assert (image.content, image.headers["content-type"]) == (data, "image/png")
    for kind, mode in (("overlay", "RGB"), ("layer", "RGBA"), ("map", "I;16")):
        shown = Image.open(io.BytesIO(get(server, f"{path}/heatmap", kind=kind).content))
        assert (shown.format, shown.mode) == ("PNG", mode)
    levels = Image.open(io.BytesIO(get(server, f"{path}/heatmap", kind="map").content))
    assert np.asarray(levels).any()


def test_a_browser_gets_a_tiff_as_png_and_others_as_they_are(keeper: RunningServer, alien: bytes) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(alien)).save(buffer, "TIFF")
    for data, own, shown in (
        (buffer.getvalue(), "image/tiff", "image/png"),
        (alien, "image/jpeg", "image/jpeg"),
    ):
        path = f"{URL}/{inspect(keeper, data)['id']}/image"
        keeper.wait_for(lambda path=path: get(keeper, path).status_code == 200)
        assert get(keeper, path).headers["content-type"] == own
        image = get(keeper, path, browser="true")
        assert image.headers["content-type"] == shown
        assert Image.open(io.BytesIO(image.content)).size == (300, 200)


def test_a_review_is_kept_beside_the_verdict_and_the_latest_counts(keeper: RunningServer, alien: bytes) -> None:
    answer = inspect(keeper, alien, station="reviews")
    path = f"{URL}/{answer['id']}"
    for label, note in ("defect", "A scratch,\nleft."), ("ok", None):
        response = keeper.client.post(f"{path}/review", json={"label": label, "note": note})
        assert response.status_code == 201
        assert (response.json()["label"], response.json()["note"]) == (label, note)
    detail = get(keeper, path).json()
    assert [review["label"] for review in detail["reviews"]] == ["ok", "defect"]
    assert detail["review"] == detail["reviews"][0]
    assert detail["review"]["reviewer"] == "127.0.0.1"
    assert detail["verdict"] == answer["verdict"]
    for reviewed, count in (True, 1), (False, 0):
        assert len(get(keeper, URL, station="reviews", reviewed=reviewed).json()["inspections"]) == count


@pytest.mark.parametrize(
    "body", [{}, {"label": "good"}, {"label": "ok", "note": "x" * 2001}, {"label": "ok", "note": "\0"}, {"lable": "ok"}]
)
def test_a_wrong_review_is_refused(keeper: RunningServer, picture: bytes, body: dict[str, str]) -> None:
    path = f"{URL}/{inspect(keeper, picture)['id']}"
    check(keeper.client.post(f"{path}/review", json=body), 422, "invalid-request")
    assert get(keeper, path).json()["reviews"] == []


def test_the_export_has_all_inspections_of_the_filter(keeper: RunningServer, picture: bytes) -> None:
    given = [inspect(keeper, picture, station="export", part_id=f"-{index}")["id"] for index in range(3)]
    response = get(keeper, "/v1/inspections.csv", station="export")
    assert response.headers["content-type"].startswith("text/csv")
    assert "attachment" in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["id"] for row in rows] == given[::-1]
    assert [row["part_id"] for row in rows] == ["'-2", "'-1", "'-0"]
    assert "limit" in check(get(keeper, "/v1/inspections.csv", limit=3), 422, "invalid-request")["detail"]


def test_statistics_count_since_their_reset(keeper: RunningServer, picture: bytes, alien: bytes) -> None:
    inspect(keeper, picture)
    assert get(keeper, "/v1/statistics").json()["inspections"] >= 1
    moment = datetime.now(UTC)
    reset = keeper.client.post("/v1/statistics/reset").json()
    assert reset["inspections"] == 0
    assert datetime.fromisoformat(reset["since"]) >= moment
    answers = [inspect(keeper, data) for data in (alien, picture, alien)]
    result = get(keeper, "/v1/statistics").json()
    StatisticsAnswer.model_validate(result)
    totals = sorted(answer["timing_ms"]["total"] for answer in answers)
    assert result["inspections"] == 3
    assert sum(result["verdicts"].values()) == 3
    assert result["pass_rate"] == pytest.approx(sum(answer["verdict"] == "pass" for answer in answers) / 3)
    assert result["execution_ms"]["min"] == pytest.approx(totals[0], abs=0.001)
    assert result["execution_ms"]["median"] == pytest.approx(totals[1], abs=0.011)
    assert result["execution_ms"]["max"] == pytest.approx(totals[2], abs=0.001)
    assert len(get(keeper, URL, limit=200).json()["inspections"]) > 3


def events(lines: Iterator[str], count: int) -> list[dict[str, str]]:
    """The next events of a stream that has them already or gets them soon."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    while len(found) < count:
        line = next(lines)
        if not line and "event" in fields:
            found.append(fields)
        if not line:
            fields = {}
        else:
            name, _, text = line.partition(": ")
            fields[name] = text
    return found


def test_inspections_are_told_as_they_happen_and_after_an_interruption_what_was_missed(
    keeper: RunningServer, picture: bytes
) -> None:
    with keeper.client.stream("GET", f"{URL}/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        first = inspect(keeper, picture, station="live")
        (event,) = events(lines, 1)
        recorded = json.loads(event["data"])
        RecordedAnswer.model_validate(recorded)
        assert (event["event"], event["id"]) == ("inspection", first["id"])
        assert (recorded["id"], recorded["station"]) == (first["id"], "live")
    missed = [inspect(keeper, picture)["id"] for _ in range(3)]
    with keeper.client.stream("GET", f"{URL}/stream", headers={"Last-Event-ID": first["id"]}) as stream:
        assert [event["id"] for event in events(stream.iter_lines(), 3)] == missed


def test_after_a_restart_what_was_missed_comes_from_the_ledger(
    bundle_folder: Path, tmp_path: Path, picture: bytes
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        given = [inspect(server, picture)["id"] for _ in range(3)]
        assert server.stop() == 0
    headers = {"Last-Event-ID": given[0]}
    with (
        running_server(bundle_folder, tmp_path) as server,
        server.client.stream("GET", f"{URL}/stream", headers=headers) as stream,
    ):
        lines = stream.iter_lines()
        assert [event["id"] for event in events(lines, 2)] == given[1:]
        fresh = inspect(server, picture)["id"]
        assert events(lines, 1)[0]["id"] == fresh


def test_a_listener_does_not_keep_the_service_from_stopping(bundle_folder: Path, tmp_path: Path) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        with server.client.stream("GET", f"{URL}/stream") as stream:
            lines = stream.iter_lines()
            next(lines)
            start = time.monotonic()
            server.terminate()
            list(lines)
        assert server.process.wait(timeout=20) == 0
        assert time.monotonic() - start < 10


def test_a_listener_that_leaves_makes_room(keeper: RunningServer) -> None:
    for _ in range(40):
        with keeper.client.stream("GET", f"{URL}/stream") as stream:
            assert stream.status_code == 200
            next(stream.iter_lines())
    keeper.wait_for(lambda: stream_status(keeper) == 200)


def stream_status(server: RunningServer) -> int:
    with server.client.stream("GET", f"{URL}/stream") as stream:
        return stream.status_code
