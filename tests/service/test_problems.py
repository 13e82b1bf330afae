"""What is refused: the problem documents, and that refusing leaves the service well."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from engines.bundle import Manifest
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server

URL = "/v1/inspections"
BODY_LIMIT = 100_000


def check(response: httpx.Response, status: int, kind: str) -> dict:
    problem = response.json()
    assert response.status_code == status, problem
    assert response.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "instance"}
    assert problem["type"] == f"urn:unispect:problem:{kind}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"].endswith(".")
    assert problem["instance"] == response.headers["x-request-id"]
    return problem


def test_an_unknown_path(server: RunningServer) -> None:
    assert "/v1/nothing" in check(server.client.get("/v1/nothing"), 404, "not-found")["detail"]


def test_a_wrong_method(server: RunningServer) -> None:
    for path, allowed in (URL, "GET, POST"), ("/v1/engine", "GET"), (f"{URL}/0/review", "POST"):
        response = server.client.delete(path)
        assert allowed in check(response, 405, "method-not-allowed")["detail"]
        assert response.headers["allow"] == allowed


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", "application/json"])
def test_a_wrong_content_type(server: RunningServer, picture: bytes, media_type: str) -> None:
    response = server.client.post(URL, content=picture, headers={"Content-Type": media_type})
    assert media_type in check(response, 415, "wrong-content-type")["detail"]


def test_no_content_type(server: RunningServer, picture: bytes) -> None:
    check(server.client.post(URL, content=picture), 415, "wrong-content-type")


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a\1\0\1\0"])
def test_no_image(server: RunningServer, data: bytes) -> None:
    check(server.client.post(URL, content=data, headers=RAW), 415, "unsupported-image")


def test_a_truncated_image(server: RunningServer, picture: bytes) -> None:
    check(server.client.post(URL, content=picture[:40], headers=RAW), 422, "undecodable-image")


def test_an_unknown_part_class_is_told_the_known_ones(
    server: RunningServer, picture: bytes, manifest: Manifest
) -> None:
    response = server.client.post(URL, params={"part_class": "no such class"}, content=picture, headers=RAW)
    detail = check(response, 422, "unknown-part-class")["detail"]
    assert all(part.name in detail for part in manifest.part_classes)


@pytest.mark.parametrize(
    "query",
    [
        {"heatmap": "colourful"},
        {"part_id": "x" * 129},
        {"part_id": "a\nb"},
        {"part_id": ""},
        {"part_class": "x" * 65},
        {"partclass": "misspelt"},
    ],
)
def test_a_wrong_parameter_is_named(server: RunningServer, picture: bytes, query: dict[str, str]) -> None:
    response = server.client.post(URL, params=query, content=picture, headers=RAW)
    assert next(iter(query)) in check(response, 422, "invalid-request")["detail"]


def test_a_form_without_the_image(server: RunningServer, picture: bytes) -> None:
    check(server.client.post(URL, files={"picture": ("part.png", picture)}), 422, "invalid-form")
    check(server.client.post(URL, files={"file": (None, "text")}), 422, "invalid-form")
    check(
        server.client.post(URL, files=[("file", ("a.png", picture)), ("file", ("b.png", picture))]), 422, "invalid-form"
    )


@pytest.mark.parametrize("boundary", ["", "; boundary=x"])
def test_a_broken_form(server: RunningServer, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    check(server.client.post(URL, content=b"--y\r\nnonsense", headers=headers), 422, "invalid-form")


@pytest.fixture(scope="module")
def small_server(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    flags = ["--max-body-bytes", str(BODY_LIMIT), "--max-queue", "1", "--max-pixels", "1000000"]
    with running_server(bundle_folder, tmp_path_factory.mktemp("small"), *flags) as running:
        yield running


def test_a_body_above_the_limit_with_and_without_a_declared_length(small_server: RunningServer) -> None:
    body = b"\xff" * (BODY_LIMIT + 1)
    chunks = (body[i : i + 4096] for i in range(0, len(body), 4096))
    for content in (body, chunks):
        response = small_server.client.post(URL, content=content, headers=RAW)
        assert str(BODY_LIMIT) in check(response, 413, "body-too-large")["detail"]


def test_a_body_declared_as_huge_is_refused_before_it_comes(small_server: RunningServer) -> None:
    address = urlsplit(small_server.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(b"POST /v1/inspections HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_an_image_above_the_pixel_limit(small_server: RunningServer, large_picture: bytes) -> None:
    data = large_picture[:50_000]
    assert (
        "2400x2000" in check(small_server.client.post(URL, content=data, headers=RAW), 413, "image-too-large")["detail"]
    )


def test_a_full_queue_says_when_to_come_again(small_server: RunningServer, alien: bytes) -> None:
    def post(_: int) -> httpx.Response:
        return httpx.post(f"{small_server.url}{URL}?heatmap=overlay", content=alien, headers=RAW, timeout=30)

    with ThreadPoolExecutor(16) as threads:
        responses = list(threads.map(post, range(64)))
    refused = [response for response in responses if response.status_code != 200]
    assert 0 < len(refused) < len(responses)
    for response in refused:
        check(response, 503, "queue-full")
        assert int(response.headers["retry-after"]) > 0
    assert small_server.client.post(URL, content=alien, headers=RAW).status_code == 200
