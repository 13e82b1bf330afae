"""Keys at the door of the real server: who gets in, who does not, what is written down, and what it costs."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.exchange import open_exchange
from service.security.authentication import Authentication
from service.security.keyring import Keyring
from service.security.keys import KeyFile
from service.security.quotas import Quotas
from service.security.roles import Role
from service.security.sessions import Sessions
from service.security.verifier import Verifier
from service.settings import Settings
from tests.service.conftest import RAW
from tests.service.running import RunningServer
from tests.service.security.conftest import connected, lines, problem_in, read_all, read_answer
from tests.service.test_lifecycle import until_ready
from tests.service.test_problems import check

URL = "/v1/inspections"
WRONG = "unispect_" + "0" * 12 + "_" + "A" * 43


def with_key(key: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **more}


@pytest.mark.parametrize(
    "path", ["/sign-in", "/docs", "/web/page.js", "/livez", "/readyz", "/healthz", "/v2/health/ready"]
)
def test_health_and_pages_need_no_key(guarded: RunningServer, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", URL),
        ("GET", "/v1/engine"),
        ("GET", "/metrics"),
        ("GET", "/v1/inspections"),
        ("GET", "/v2"),
        ("GET", "/"),
        ("GET", "/history"),
        ("POST", "/try"),
        ("POST", "/web/page.js"),
        ("GET", "/sign-in/"),
        ("GET", "/sign-out"),
        ("POST", "/v1/engines"),
        ("GET", "/nothing"),
        ("GET", "/livez/"),
        ("GET", "/web/../v1/engine"),
        ("GET", "/%2e/v1/engine"),
        ("OPTIONS", URL),
    ],
)
def test_nothing_else_opens_without_a_key(guarded: RunningServer, method: str, path: str) -> None:
    response = guarded.client.request(method, path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_a_key_opens_by_either_header(guarded: RunningServer, keys: dict[Role, str], picture: bytes) -> None:
    key = keys[Role.INSPECT]
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}, {"X-API-Key": key}):
        assert guarded.client.post(URL, content=picture, headers=RAW | headers).status_code == 200
    for headers in ({"Authorization": f"Basic {key}"}, {"Authorization": key}, {"Cookie": f"X-API-Key={key}"}):
        response = guarded.client.post(URL, content=picture, headers=RAW | headers)
        check(response, 401, "unauthenticated")
    assert guarded.client.post(f"{URL}?x-api-key={key}", content=picture, headers=RAW).status_code == 401


@pytest.mark.parametrize(
    ("role", "method", "path", "allowed"),
    [
        (Role.INSPECT, "GET", "/v1/engine", True),
        (Role.INSPECT, "GET", "/metrics", True),
        (Role.INSPECT, "GET", "/v1/inspections", False),
        (Role.INSPECT, "GET", "/", False),
        (Role.INSPECT, "GET", "/try", True),
        (Role.INSPECT, "GET", "/history", False),
        (Role.REVIEW, "GET", "/", True),
        (Role.REVIEW, "POST", "/engines/activate", False),
        (Role.INSPECT, "POST", "/v1/inspections/x/review", False),
        (Role.INSPECT, "POST", "/v1/engines", False),
        (Role.REVIEW, "GET", "/v1/engine", True),
        (Role.REVIEW, "GET", "/v1/inspections", True),
        (Role.REVIEW, "POST", "/v1/statistics/reset", False),
        (Role.REVIEW, "GET", "/nothing", False),
        (Role.ADMIN, "GET", "/v1/inspections", True),
        (Role.ADMIN, "GET", "/nothing", True),
    ],
)
def test_a_role_opens_what_it_is_for(
    guarded: RunningServer, keys: dict[Role, str], role: Role, method: str, path: str, allowed: bool
) -> None:
    response = guarded.client.request(method, path, headers=with_key(keys[role]))
    if allowed:
        assert response.status_code in (200, 404)
    else:
        assert str(role) in check(response, 403, "forbidden")["detail"]


def test_a_stranger_is_refused_before_his_body_comes(guarded: RunningServer) -> None:
    with connected(guarded) as connection:
        start = time.monotonic()
        connection.sendall(f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n".encode())
        assert read_answer(connection).startswith(b"HTTP/1.1 401 ")
        assert time.monotonic() - start < 1.0


def test_a_client_is_named_in_the_log_and_an_act_of_an_admin_is_written_down(
    guarded: RunningServer, keys: dict[Role, str]
) -> None:
    acts = [(Role.ADMIN, 404), (Role.REVIEW, 403)]
    ids = []
    for role, status in acts:
        response = guarded.client.delete("/v1/engines/no-such/versions/1", headers=with_key(keys[role]))
        assert response.status_code in (status, 405, 404)
        ids.append(response.headers["x-request-id"])
    stranger = guarded.client.delete("/v1/engines/no-such/versions/1").headers["x-request-id"]
    guarded.wait_for(lambda: len(lines(guarded, request_id=stranger)) == 1)
    for (role, _), id_ in zip(acts, ids, strict=True):
        (line,) = lines(guarded, request_id=id_, logger="service.audit", message="An act of an admin.")
        assert (line["client"], line["address"], line["method"]) == (str(role), "127.0.0.1", "DELETE")
        assert line["path"] == "/v1/engines/no-such/versions/1"
        assert lines(guarded, request_id=id_, logger="service.requests")[0]["client"] == str(role)
    assert not lines(guarded, request_id=stranger, logger="service.audit")


def test_a_key_is_never_logged(guarded: RunningServer, keys: dict[Role, str]) -> None:
    for key in (*keys.values(), WRONG):
        guarded.client.get("/v1/engine", headers=with_key(key))
    guarded.client.get("/v1/engine", headers={"X-Request-ID": "last-of-the-keys"})
    guarded.wait_for(lambda: bool(lines(guarded, request_id="last-of-the-keys")))
    log = guarded.log.read_text()
    assert not [key for key in (*keys.values(), WRONG) if key in log or key[-43:] in log]


def test_a_key_made_or_revoked_beside_the_running_server_counts_within_two_seconds(
    guarded: RunningServer, guarded_folder: Path
) -> None:
    file = KeyFile(guarded_folder / "data")
    headers = with_key(file.create("visitor", Role.INSPECT))

    def status() -> int:
        return guarded.client.get("/v1/engine", headers=headers).status_code

    time.sleep(1.3)
    assert status() == 200
    file.revoke("visitor")
    time.sleep(1.3)
    assert status() == 401
    guarded.wait_for(lambda: bool(lines(guarded, logger="service.audit", message="A key was revoked.", name="visitor")))


def test_a_known_key_costs_less_than_a_tenth_of_a_millisecond(tmp_path: Path) -> None:
    key = KeyFile(tmp_path).create("line-1", Role.INSPECT)
    headers = [(b"host", b"x"), (b"content-type", b"image/png"), (b"authorization", f"Bearer {key}".encode())]
    let_in = 0

    async def answer(*_: object) -> None:
        nonlocal let_in
        let_in += 1

    async def scenario() -> float:
        keyring = Keyring(tmp_path)
        door = Authentication(answer, keyring, Verifier(keyring), Sessions(tmp_path, keyring), Quotas(1e6))
        seconds = []
        for _ in range(2000):
            scope = {"type": "http", "method": "POST", "path": URL, "headers": headers, "client": ("10.0.0.1", 1)}
            open_exchange(scope, "id")
            start = time.perf_counter()
            await door(scope, answer, answer)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    assert asyncio.run(scenario()) < 1e-4
    assert let_in == 2000


@pytest.fixture
def app_of(tmp_path: Path, bundle_folder: Path) -> Iterator:
    def make(**settings: object):
        return create_app(Settings(bundle=bundle_folder, data_dir=tmp_path, **settings))

    return make


def test_wrong_keys_from_one_address_are_cut_and_right_ones_are_not(app_of, tmp_path: Path) -> None:
    seen, new = (KeyFile(tmp_path).create(name, Role.INSPECT) for name in ("seen", "new"))

    async def scenario() -> None:
        app = app_of()

        def client_at(address: str) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                transport=httpx.ASGITransport(app, client=(address, 1)), base_url="http://localhost"
            )

        async with client_at("10.0.0.1") as attacker, client_at("10.0.0.2") as other:
            assert (await attacker.get("/v1/engine", headers=with_key(seen))).status_code == 200
            answers = await asyncio.gather(
                *(attacker.get("/v1/engine", headers=with_key(WRONG[:-2] + f"{n:02d}")) for n in range(60))
            )
            statuses = [answer.status_code for answer in answers]
            assert statuses.count(401) == 20 and statuses.count(429) == 40
            last = answers[-1]
            assert last.json()["type"] == "urn:unispect:problem:too-many-attempts"
            assert int(last.headers["retry-after"]) >= 1
            assert (await attacker.get("/v1/engine", headers=with_key(seen))).status_code == 200
            assert (await attacker.get("/v1/engine", headers=with_key(new))).status_code == 429
            assert (await attacker.get("/livez")).status_code == 200
            assert (await other.get("/v1/engine", headers=with_key(new))).status_code == 200

    asyncio.run(scenario())


def test_right_keys_never_use_up_the_attempts(app_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.security.keys._SCRYPT_N", 16)
    keys = [KeyFile(tmp_path).create(f"line-{number}", Role.INSPECT) for number in range(25)]

    async def scenario() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app_of()), base_url="http://localhost") as client:
            for key in keys:
                assert (await client.get("/v2", headers=with_key(key))).status_code == 200

    asyncio.run(scenario())


def test_a_client_over_its_quota_is_refused_before_its_body_is_read(app_of, tmp_path: Path) -> None:
    greedy, modest = (KeyFile(tmp_path).create(name, Role.INSPECT) for name in ("greedy", "modest"))

    async def body() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async def scenario() -> None:
        transport = httpx.ASGITransport(app_of(quota_per_second=3.0))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            statuses = [(await client.get("/v2", headers=with_key(greedy))).status_code for _ in range(3)]
            assert statuses == [200] * 3
            response = await client.post(URL, content=body(), headers=RAW | with_key(greedy))
            assert "greedy" in check(response, 429, "quota-exceeded")["detail"]
            assert int(response.headers["retry-after"]) >= 1
            assert (await client.get("/v2", headers=with_key(modest))).status_code == 200
            assert (await client.get("/livez")).status_code == 200

    asyncio.run(scenario())


def test_the_images_of_a_batch_count_one_by_one(app_of, tmp_path: Path, picture: bytes) -> None:
    headers = with_key(KeyFile(tmp_path).create("line-1", Role.INSPECT))
    batch = [("file", (f"{number}.png", picture)) for number in range(8)]

    async def scenario() -> None:
        app = app_of(quota_per_second=2.0)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            await until_ready(app.state.context.inspector)
            first = await client.post(f"{URL}:batch", files=batch, headers=headers)
            assert (first.status_code, first.json()["refused"]) == (200, 0)
            second = await client.post(f"{URL}:batch", files=batch, headers=headers)
            check(second, 429, "quota-exceeded")
            assert int(second.headers["retry-after"]) >= 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "127.0.0.1:8000"}, True),
        ({"Host": "[::1]:8000"}, True),
        ({"Host": "[::ffff:127.0.0.1]"}, True),
        ({"Host": "localhost"}, True),
        ({"Host": "app.localhost:8000"}, True),
        ({"Host": "unispect:8000", "Origin": "http://unispect:8000"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}, False),
        ({"Host": "127.0.0.1.evil.example:8000"}, False),
        ({"Host": "evil.example."}, False),
        ({"Host": "127.0.0.1:8000", "Origin": "http://evil.example"}, False),
        ({"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:9000"}, False),
        ({"Host": "127.0.0.1:8000", "Origin": "null"}, False),
    ],
)
def test_without_keys_no_page_of_another_origin_gets_in(server: RunningServer, headers: dict, allowed: bool) -> None:
    response = server.client.get("/v1/engine", headers=headers)
    if allowed:
        assert response.status_code == 200
    else:
        check(response, 403, "forbidden")


def test_many_strangers_at_once_do_not_slow_who_has_a_key(guarded: RunningServer, keys: dict[Role, str]) -> None:
    headers = with_key(keys[Role.INSPECT])
    guarded.client.get("/v1/engine", headers=headers)
    wrong = keys[Role.ADMIN][:-4] + "AAAA"

    def attack(_: int) -> int:
        with connected(guarded) as connection:
            connection.sendall(
                f"GET /v1/engine HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {wrong}\r\n\r\n".encode()
            )
            return problem_in(read_all(connection))["status"]

    with ThreadPoolExecutor(8) as threads:
        attacks = [threads.submit(attack, number) for number in range(40)]
        slowest = 0.0
        for _ in range(20):
            start = time.perf_counter()
            assert guarded.client.get("/v1/engine", headers=headers).status_code == 200
            slowest = max(slowest, time.perf_counter() - start)
        assert {attack.result() for attack in attacks} <= {401, 429}
    assert slowest < 1.0
