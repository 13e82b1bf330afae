"""POST /v1/inspections:batch: results in order, errors for each image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from engines.bundle import Manifest
from service.answers import BatchAnswer
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server

URL = "/v1/inspections:batch"
MOST = 64


@pytest.fixture(scope="module")
def narrow(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose queue takes two inspections."""
    with running_server(bundle_folder, tmp_path_factory.mktemp("narrow"), "--max-queue", "2") as running:
        yield running


def post(server: RunningServer, images: Sequence[bytes], data: dict | None = None, **query: str) -> httpx.Response:
    files = [("file", (f"{number}.png", image)) for number, image in enumerate(images)]
    return server.client.post(URL, params=query, files=files, data=data)


def test_the_results_are_in_the_order_of_the_images(server: RunningServer, pictures: list[bytes], alien: bytes) -> None:
    images = [*pictures[:20], alien]
    expected = [server.client.post("/v1/inspections", content=data, headers=RAW).json() for data in images]
    answer = post(server, images).json()
    inspections = [result["inspection"] for result in answer["results"]]
    assert answer["refused"] == 0
    assert len({one["score"] for one in expected}) > 5
    assert [one["score"] for one in inspections] == pytest.approx([one["score"] for one in expected], rel=1e-5)
    assert [one["verdict"] for one in inspections] == [one["verdict"] for one in expected]
    assert len({one["id"] for one in inspections}) == len(images)


def test_a_bad_image_is_refused_alone(server: RunningServer, picture: bytes) -> None:
    response = post(server, [picture, b"hello", picture[:40], picture])
    answer = BatchAnswer.model_validate_json(response.content, strict=True)
    problems = [result.problem for result in answer.results]
    assert response.status_code == 200
    assert answer.refused == 2
    assert [problem and problem.status for problem in problems] == [None, 415, 422, None]
    assert [result.inspection is None for result in answer.results] == [False, True, True, False]
    assert problems[1] is not None
    assert problems[1].instance == response.headers["x-request-id"]
    assert 'kind="some-images-refused"' in server.client.get("/metrics").text


def test_class_and_part_id_are_given_for_each_image_or_for_all(
    server: RunningServer, pictures: list[bytes], manifest: Manifest
) -> None:
    classes = [part.name for part in manifest.part_classes]
    response = post(server, pictures[:2], {"part_class": classes[::-1], "part_id": ["", "Bögen 7"]})
    inspections = [result["inspection"] for result in response.json()["results"]]
    assert [one["part_class"] for one in inspections] == classes[::-1]
    assert [one["part_id"] for one in inspections] == [None, "Bögen 7"]
    same = post(server, pictures[:2], part_class=classes[1]).json()["results"]
    assert {result["inspection"]["part_class"] for result in same} == {classes[1]}


def test_each_image_gets_its_heatmap(server: RunningServer, pictures: list[bytes]) -> None:
    results = post(server, pictures[:2], heatmap="map").json()["results"]
    assert len({result["inspection"]["heatmap"] for result in results}) == 2


def test_more_images_than_the_queue_takes_are_inspected_nevertheless(
    narrow: RunningServer, pictures: list[bytes]
) -> None:
    answer = post(narrow, (pictures * MOST)[:MOST]).json()
    assert (answer["refused"], len(answer["results"])) == (0, MOST)


@pytest.mark.parametrize(
    ("images", "fields", "query", "kind"),
    [
        (0, {"part_id": "x"}, {}, "invalid-form"),
        (MOST + 1, {}, {}, "invalid-form"),
        (2, {"part_id": ["x"]}, {}, "invalid-form"),
        (1, {"part_id": ["x" * 129]}, {}, "invalid-request"),
        (1, {}, {"partclass": "x"}, "invalid-request"),
    ],
)
def test_a_wrong_form_is_refused_whole(
    server: RunningServer, picture: bytes, images: int, fields: dict, query: dict[str, str], kind: str
) -> None:
    response = post(server, [picture] * images, {"note": "a form even without images", **fields}, **query)
    if not images:
        response = server.client.post(URL, files={"note": (None, "no image")})
    assert response.status_code == 422
    assert response.json()["type"] == f"urn:unispect:problem:{kind}"


def test_a_raw_image_is_no_batch(server: RunningServer, picture: bytes) -> None:
    response = server.client.post(URL, content=picture, headers=RAW)
    assert response.json()["type"] == "urn:unispect:problem:wrong-content-type"
