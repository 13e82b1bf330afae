"""Signing in and out over HTTP, and what a session opens."""

import asyncio
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.app import create_app
from service.security.keys import KeyFile
from service.security.roles import Role
from service.security.sessions import COOKIE
from service.settings import Settings
from tests.service.conftest import RAW
from tests.service.running import RunningServer
from tests.service.security.conftest import lines
from tests.service.test_problems import check

PAGE = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def stranger(guarded: RunningServer) -> Iterator[httpx.Client]:
    """A browser without a session."""
    with httpx.Client(base_url=guarded.url, timeout=30) as client:
        yield client


@pytest.fixture
def admin(stranger: httpx.Client, keys: dict[Role, str]) -> httpx.Client:
    """A browser with an admin's session."""
    assert sign_in(stranger, keys[Role.ADMIN]).status_code == HTTPStatus.SEE_OTHER
    return stranger


def sign_in(client: httpx.Client, key: str, next_: str = "/", **headers: str) -> httpx.Response:
    return client.post("/sign-in", data={"key": key, "next": next_}, headers=PAGE | own(client) | headers)


def own(client: httpx.Client) -> dict[str, str]:
    return {"Origin": str(client.base_url).rstrip("/")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KeyFile(tmp_path).create("anna", Role.REVIEW)
    return tmp_path


@pytest.mark.parametrize("path", ["/", "/history?verdict=fail&station=a%26b", "/try", "/v1/engine", "/nothing"])
def test_a_browser_without_a_session_is_sent_to_sign_in_and_back(
    stranger: httpx.Client, keys: dict[Role, str], path: str
) -> None:
    refused = stranger.get(path, headers=PAGE)
    assert refused.status_code == HTTPStatus.SEE_OTHER
    form = stranger.get(refused.headers["location"], headers=PAGE)
    assert form.status_code == 200
    next_ = re.search(r'name="next" value="([^"]*)"', form.text)[1].replace("&amp;", "&")
    assert sign_in(stranger, keys[Role.ADMIN], next_).headers["location"] == path


def test_a_program_without_a_key_gets_a_problem_document(stranger: httpx.Client) -> None:
    for headers in ({}, {"Accept": "application/json"}, {"Accept": "text/event-stream"}):
        check(stranger.get("/", headers=headers), 401, "unauthenticated")


@pytest.mark.parametrize(
    "next_",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        "evil.example",
        "",
        "/sign-in?next=/",
        "/" + "a" * 3000,
    ],
)
def test_nobody_is_sent_elsewhere(stranger: httpx.Client, keys: dict[Role, str], next_: str) -> None:
    for answer in (
        sign_in(stranger, keys[Role.ADMIN], next_),
        stranger.get("/sign-in", params={"next": next_}, headers=PAGE),
    ):
        assert answer.status_code == HTTPStatus.SEE_OTHER
        address = urlsplit(str(stranger.base_url.join(answer.headers["location"])))
        assert f"{address.scheme}://{address.netloc}" == str(stranger.base_url).rstrip("/")
        assert not re.match(r"/[/\\]", answer.headers["location"])


def test_who_may_not_look_back_is_sent_where_he_may_go(stranger: httpx.Client, keys: dict[Role, str]) -> None:
    assert sign_in(stranger, keys[Role.INSPECT]).headers["location"] == "/try"
    page = stranger.get("/", headers=PAGE)
    assert page.status_code == 403
    assert "review" in page.text and 'role="alert"' in page.text
    assert stranger.get("/try", headers=PAGE).status_code == 200


def test_a_wrong_key_is_told_on_the_page_and_begins_no_session(stranger: httpx.Client) -> None:
    answer = sign_in(stranger, "unispect_" + "0" * 12 + "_" + "A" * 43, "/history")
    assert answer.status_code == 401
    assert "unknown or revoked" in answer.text and 'value="/history"' in answer.text
    assert "set-cookie" not in answer.headers
    assert "AAAA" not in answer.text


def test_a_session_opens_pages_and_the_api(admin: httpx.Client, picture: bytes) -> None:
    assert admin.get("/", headers=PAGE).status_code == 200
    assert admin.get("/v1/engine").status_code == 200
    assert admin.post("/v1/inspections", content=picture, headers=RAW | own(admin)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_a_page_of_another_origin_cannot_use_a_session(
    admin: httpx.Client, picture: bytes, headers: dict[str, str], allowed: bool
) -> None:
    answer = admin.post("/v1/inspections", content=picture, headers=RAW | headers)
    if allowed:
        assert answer.status_code == 200
    else:
        check(answer, 403, "forbidden")
        assert admin.delete("/v1/shadow", headers=headers).status_code == 403


def test_a_page_of_another_origin_can_neither_sign_in_nor_out(stranger: httpx.Client, keys: dict[Role, str]) -> None:
    for path in ("/sign-in", "/sign-out"):
        answer = stranger.post(path, data={"key": keys[Role.ADMIN]}, headers={"Origin": "http://evil.example"})
        check(answer, 403, "forbidden")
        assert "set-cookie" not in answer.headers


def test_a_session_ends_by_signing_out(admin: httpx.Client) -> None:
    answer = admin.post("/sign-out", headers=PAGE | own(admin))
    assert (answer.status_code, answer.headers["location"]) == (HTTPStatus.SEE_OTHER, "/sign-in")
    assert COOKIE not in admin.cookies
    assert admin.get("/", headers=PAGE).status_code == HTTPStatus.SEE_OTHER


def test_a_key_in_a_header_counts_before_a_session(admin: httpx.Client, keys: dict[Role, str]) -> None:
    check(admin.get("/v1/inspections", headers={"X-API-Key": keys[Role.INSPECT]}), 403, "forbidden")


def test_a_form_that_is_none_is_told(stranger: httpx.Client) -> None:
    headers = own(stranger)
    check(stranger.post("/sign-in", json={"key": "x"}, headers=headers), 415, "wrong-content-type")
    form = headers | {"Content-Type": "application/x-www-form-urlencoded"}
    check(stranger.post("/sign-in", content=b"key=%ff%fe", headers=form), 422, "invalid-form")
    check(stranger.post("/sign-in", content=b"a=1&" * 40, headers=form), 422, "invalid-form")
    check(stranger.post("/sign-in", content=b"key=" + b"x" * 70_000, headers=form), 413, "body-too-large")


def test_who_signed_in_is_written_down_and_his_session_is_not(guarded: RunningServer, admin: httpx.Client) -> None:
    admin.get("/v1/engine", headers={"X-Request-ID": "last-of-the-sessions"})
    guarded.wait_for(lambda: bool(lines(guarded, request_id="last-of-the-sessions")))
    assert lines(guarded, request_id="last-of-the-sessions")[0]["client"] == str(Role.ADMIN)
    assert lines(guarded, logger="service.audit", message="A person signed in.", client=str(Role.ADMIN))
    assert admin.cookies[COOKIE] not in guarded.log.read_text()


def app_in(folder: Path, bundle: Path, **settings: object):
    return create_app(Settings(bundle=bundle, data_dir=folder, **settings))


def test_guessing_by_the_form_is_cut_together_with_guessing_by_header(folder: Path, bundle_folder: Path) -> None:
    async def scenario() -> None:
        transport = httpx.ASGITransport(app_in(folder, bundle_folder))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            wrong = "unispect_" + "0" * 12 + "_" + "A" * 41
            for number in range(10):
                answer = await client.get("/v1/engine", headers={"X-API-Key": f"{wrong}{number:02d}"})
                assert answer.status_code == 401
            statuses = [
                (
                    await client.post(
                        "/sign-in", data={"key": f"{wrong}{number}"}, headers={"Origin": "http://localhost"}
                    )
                )
                for number in range(10, 30)
            ]
            assert [answer.status_code for answer in statuses] == [401] * 10 + [429] * 10
            assert "Too many wrong keys" in statuses[-1].text

    asyncio.run(scenario())


def test_looking_at_pages_uses_up_no_quota_and_sending_images_does(folder: Path, bundle_folder: Path) -> None:
    key = KeyFile(folder).create("bea", Role.ADMIN)

    async def scenario() -> None:
        transport = httpx.ASGITransport(app_in(folder, bundle_folder, quota_per_second=2.0))
        own = {"Origin": "http://localhost"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=own) as client:
            assert (await client.post("/sign-in", data={"key": key})).status_code == HTTPStatus.SEE_OTHER
            for _ in range(8):
                assert (await client.get("/v1/engine")).status_code == 200
            statuses = [(await client.post("/v1/inspections", content=b"x", headers=RAW)).status_code for _ in range(4)]
            assert 429 in statuses and statuses[0] != 429

    asyncio.run(scenario())


def test_without_keys_nobody_signs_in(server: RunningServer, tmp_path: Path) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/", headers=PAGE).status_code == 200
        assert client.get("/sign-in", headers=PAGE).headers["location"] == "/"
        answer = sign_in(client, "anything")
        assert (answer.status_code, answer.headers["location"]) == (HTTPStatus.SEE_OTHER, "/")
        assert "set-cookie" not in answer.headers
