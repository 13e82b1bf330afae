"""What a client can do to a connection: slow, endless, malformed or too much of it, each cut off in time."""

import re
import socket
import struct
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from service.security.roles import Role
from tests.service.conftest import RAW
from tests.service.running import RunningServer
from tests.service.security.conftest import (
    BODY_SECONDS,
    HEADER_SECONDS,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    connected,
    lines,
    problem_in,
    read_all,
    read_answer,
)

URL = "/v1/inspections"
MARGIN = 2.0


def start_line(method: str = "GET", path: str = "/livez") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()


def post_head(key: str, *headers: str) -> bytes:
    more = [f"X-API-Key: {key}", "Content-Type: application/octet-stream", *headers]
    return start_line("POST", URL) + "\r\n".join(more).encode() + b"\r\n\r\n"


def is_well(server: RunningServer) -> bool:
    return httpx.get(f"{server.url}/livez").status_code == 200


def send_slowly(connection: socket.socket, data: bytes) -> tuple[bytes, float]:
    """Send ten bytes a second until there is an answer; returns it, and after how many seconds it came."""
    start = time.monotonic()
    connection.settimeout(0.1)
    for byte in data:
        connection.sendall(bytes([byte]))
        try:
            return read_answer(connection), time.monotonic() - start
        except TimeoutError:
            continue
    raise AssertionError("There was no answer.")


def test_headers_that_come_byte_by_byte_are_cut(guarded: RunningServer) -> None:
    with connected(guarded) as connection:
        answer, seconds = send_slowly(connection, start_line() + b"X-Slow: " + b"x" * 100)
    assert problem_in(answer)["type"] == "urn:unispect:problem:headers-too-slow"
    assert HEADER_SECONDS <= seconds < HEADER_SECONDS + MARGIN
    assert is_well(guarded)


def test_what_is_refused_before_the_application_is_counted_and_logged(
    guarded: RunningServer, keys: dict[Role, str]
) -> None:
    def counted() -> float:
        text = guarded.client.get("/metrics", headers={"X-API-Key": keys[Role.INSPECT]}).text
        found = re.search(r'unispect_problems_total\{kind="headers-too-large"\} (\S+)', text)
        return float(found[1]) if found else 0.0

    before = counted()
    with connected(guarded) as connection:
        connection.sendall(start_line() + b"X: y\r\n" * (MAX_HEADERS + 1) + b"\r\n")
        id_ = problem_in(read_all(connection))["instance"]
    assert counted() == before + 1
    guarded.wait_for(lambda: bool(lines(guarded, request_id=id_)))
    (line,) = lines(guarded, request_id=id_)
    assert (line["address"], line["outcome"], line["status"]) == ("127.0.0.1", "headers-too-large", 431)


def test_a_connection_on_which_nothing_comes_is_closed(guarded: RunningServer) -> None:
    # Before the server's clock starts, which it does as the connection is made.
    start = time.monotonic()
    with connected(guarded) as connection:
        assert read_all(connection) == b""
        assert HEADER_SECONDS <= time.monotonic() - start < HEADER_SECONDS + MARGIN


def test_the_headers_of_a_second_request_are_timed_too(guarded: RunningServer) -> None:
    with connected(guarded) as connection:
        connection.sendall(start_line() + b"\r\n")
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
        start = time.monotonic()
        connection.sendall(b"GET /liv")
        assert problem_in(read_all(connection))["status"] == 408
        assert HEADER_SECONDS <= time.monotonic() - start < HEADER_SECONDS + MARGIN


def test_an_idle_connection_between_requests_is_kept(guarded: RunningServer) -> None:
    with connected(guarded) as connection:
        for _ in range(2):
            connection.sendall(start_line() + b"\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
            time.sleep(HEADER_SECONDS + 0.2)


@pytest.mark.parametrize(
    "head",
    [
        start_line() + b"X-Huge: " + b"x" * 10_000_000,
        b"GET /" + b"x" * 10_000_000,
        b"X" * 10_000_000,
        b"\r\n" * 5_000_000,
        start_line() + b"x" * 10_000_000 + b": 1",
    ],
    ids=["value", "path", "method", "empty lines", "name"],
)
def test_headers_without_an_end_are_cut_at_the_limit(guarded: RunningServer, head: bytes) -> None:
    before = guarded.memory("VmHWM")
    with connected(guarded) as connection:
        with suppress(ConnectionError):
            connection.sendall(head)
        answer = read_all(connection)
    # The rest of what was sent can reset the connection before the answer is read.
    assert answer == b"" or problem_in(answer)["status"] in (400, 431)
    assert guarded.memory("VmHWM") - before < 8 * 2**20
    assert is_well(guarded)


def test_headers_a_little_above_the_limit_are_refused_and_at_it_are_not(guarded: RunningServer) -> None:
    empty = start_line() + b"X-Large: " + b"\r\n\r\n"
    for size, status in ((MAX_HEADER_BYTES, b"200"), (MAX_HEADER_BYTES + 1, b"431")):
        with connected(guarded) as connection:
            connection.sendall(empty[:-4] + b"x" * (size - len(empty)) + b"\r\n\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 " + status)


def test_more_headers_than_the_limit_are_refused_and_as_many_are_not(guarded: RunningServer) -> None:
    for count, status in ((MAX_HEADERS - 1, b"200"), (MAX_HEADERS, b"431")):
        with connected(guarded) as connection:
            connection.sendall(start_line() + b"".join(b"X-%d: y\r\n" % n for n in range(count)) + b"\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 " + status)


def test_a_body_in_the_same_packet_is_no_part_of_the_headers(
    guarded: RunningServer, keys: dict[Role, str], picture: bytes
) -> None:
    assert len(picture) > 2 * MAX_HEADER_BYTES
    with connected(guarded) as connection:
        for _ in range(2):
            connection.sendall(post_head(keys[Role.INSPECT], f"Content-Length: {len(picture)}") + picture)
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_comes_slowly_is_answered_and_cut(guarded: RunningServer, keys: dict[Role, str]) -> None:
    with connected(guarded) as connection:
        connection.sendall(post_head(keys[Role.INSPECT], "Content-Length: 1000"))
        answer, seconds = send_slowly(connection, b"x" * 100)
        assert problem_in(answer)["type"] == "urn:unispect:problem:body-too-slow"
        assert b"connection: close" in answer.lower()
        assert BODY_SECONDS <= seconds < BODY_SECONDS + MARGIN
        connection.settimeout(5)
        assert read_all(connection) == b""


def test_who_still_sends_after_he_was_refused_is_cut(guarded: RunningServer, keys: dict[Role, str]) -> None:
    with connected(guarded) as connection:
        connection.sendall(post_head(keys[Role.INSPECT], f"Content-Length: {MAX_BODY_BYTES + 10**9}"))
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - start < 20:
                connection.sendall(b"x" * 1000)
                time.sleep(0.05)
        assert time.monotonic() - start < 9


def test_who_was_refused_and_sends_the_rest_keeps_his_connection(
    guarded: RunningServer, keys: dict[Role, str], picture: bytes
) -> None:
    with connected(guarded) as connection:
        size = MAX_BODY_BYTES + 1000
        connection.sendall(post_head(keys[Role.INSPECT], f"Content-Length: {size}"))
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"x" * size)
        connection.sendall(post_head(keys[Role.INSPECT], f"Content-Length: {len(picture)}") + picture)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("chunk", [b"1;" + b"x" * 200 + b"\r\ny\r\n", b"1\r\ny\r\n"], ids=["extensions", "tiny chunks"])
def test_a_body_that_is_mostly_framing_is_cut(guarded: RunningServer, keys: dict[Role, str], chunk: bytes) -> None:
    with connected(guarded) as connection:
        connection.sendall(post_head(keys[Role.INSPECT], "Transfer-Encoding: chunked"))
        sent = 0
        start = time.monotonic()
        try:
            while sent < 50_000_000:
                sent += connection.send(chunk * 1000)
        except OSError:
            pass
        assert time.monotonic() - start < BODY_SECONDS
    assert sent < 10_000_000
    assert is_well(guarded)


def test_trailers_change_nothing_and_do_not_end_never(
    guarded: RunningServer, keys: dict[Role, str], picture: bytes
) -> None:
    body = b"%x\r\n%s\r\n0\r\n" % (len(picture), picture)
    with connected(guarded) as connection:
        connection.sendall(
            post_head(keys[Role.INSPECT], "Transfer-Encoding: chunked") + body + b"X-Request-ID: z\r\n\r\n"
        )
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
    before = guarded.memory("VmHWM")
    with connected(guarded) as connection:
        connection.sendall(post_head(keys[Role.INSPECT], "Transfer-Encoding: chunked") + body + b"X-Endless: ")
        with pytest.raises(OSError):
            for _ in range(100):
                connection.sendall(b"x" * 1_000_000)
    assert guarded.memory("VmHWM") - before < 8 * 2**20


def test_who_takes_nothing_of_his_answer_is_cut(guarded: RunningServer) -> None:
    with connected(guarded) as connection:
        start = time.monotonic()
        # More than the kernels of both sides keep.
        connection.sendall((start_line("GET", "/docs/files/swagger-ui-bundle.js") + b"\r\n") * 12)
        with pytest.raises(ConnectionError):
            while time.monotonic() - start < 20:
                connection.sendall(b"\r\n")
                time.sleep(0.05)
        assert BODY_SECONDS <= time.monotonic() - start < BODY_SECONDS + 5
    assert is_well(guarded)


def test_requests_that_wait_for_no_answer_are_bounded(guarded: RunningServer) -> None:
    before = guarded.memory("VmHWM")
    few, many = start_line() + b"\r\n", start_line("GET", "/openapi.json") + b"\r\n"
    with connected(guarded) as connection:
        connection.sendall(few * 5)
        received = b""
        while received.count(b'"status":"ok"') < 5:
            received += connection.recv(65536)
    with connected(guarded) as connection, pytest.raises(ConnectionError):
        for _ in range(400):
            connection.sendall(many * 1000)
    assert guarded.memory("VmHWM") - before < 16 * 2**20
    assert is_well(guarded)


def test_a_new_connection_has_room_however_many_idle(guarded: RunningServer, keys: dict[Role, str]) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(guarded)) for _ in range(80)]
        for connection in idle:
            try:
                connection.sendall(b"GET /slow HTTP/1.1\r\nX: ")
            except ConnectionError:
                continue
        for _ in range(5):
            with httpx.Client() as client:
                headers = {"X-API-Key": keys[Role.INSPECT]}
                assert client.get(f"{guarded.url}/v1/engine", headers=headers).status_code == 200
        assert open_sockets(guarded) < 60


def open_sockets(server: RunningServer) -> int:
    handles = Path(f"/proc/{server.process.pid}/fd").iterdir()
    return sum("socket:" in str(handle.readlink()) for handle in handles if handle.is_symlink())


NOT_HTTP = {
    "empty line and junk": b"\r\n\r\n\0\1\2\r\n\r\n",
    "no version": b"GET /nothing\r\n\r\n",
    "lower-case version": b"GET /livez http/1.1\r\n\r\n",
    "HTTP/9": b"GET /livez HTTP/9.9\r\n\r\n",
    "a space before the colon": start_line() + b"X-Key : y\r\n\r\n",
    "a header without a colon": start_line() + b"nonsense\r\n\r\n",
    "a zero in a header": start_line() + b"X-Key: a\0b\r\n\r\n",
    "two lengths": start_line("POST", URL) + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": start_line("POST", URL) + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": start_line("POST", URL) + b"Content-Length: -1\r\n\r\n",
    "a length that is no number": start_line("POST", URL) + b"Content-Length: 1e3\r\n\r\n",
    "a length beyond 64 bits": start_line("POST", URL) + b"Content-Length: 99999999999999999999\r\n\r\n",
    "an unknown transfer coding": start_line("POST", URL) + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "bytes above 127 in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a proxy's request": b"GET http://evil.example/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(80),
    "an unknown method": b"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "websocket": start_line("GET", "/v1/engine") + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "upgrade with a body": start_line("POST", URL)
    + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
    "a line folded": start_line() + b"X-Key: a\r\n b\r\n\r\n",
    "only line feeds": b"GET /nothing HTTP/1.1\nHost: x\n\n",
    "a percent sign alone": b"GET /% HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded zero": b"GET /web/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded way out": b"GET /web/%2e%2e/%2e%2e/settings.py HTTP/1.1\r\nHost: x\r\n\r\n",
    "a way out": b"GET /web/../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "a file name of 4000 letters": b"GET /web/" + b"x" * 3900 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_is_no_proper_request_is_refused_and_never_an_error_of_the_service(
    guarded: RunningServer, name: str
) -> None:
    with connected(guarded, 4.0) as connection:
        connection.sendall(NOT_HTTP[name])
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    status = int(answer.split()[1]) if answer else 0
    assert status == 0 or 400 <= status < 500 or (status, name) == (200, "a proxy's request"), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert is_well(guarded)


def test_a_client_that_resets_his_connections_leaves_nothing_behind(
    guarded: RunningServer, keys: dict[Role, str], picture: bytes
) -> None:
    before = open_sockets(guarded)
    for cut in (10, 100, 400, 3000, len(picture)):
        for _ in range(10):
            with connected(guarded) as connection:
                connection.sendall((post_head(keys[Role.INSPECT], f"Content-Length: {len(picture)}") + picture)[:cut])
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    guarded.wait_for(lambda: open_sockets(guarded) <= before + 1)
    headers = RAW | {"X-API-Key": keys[Role.INSPECT]}
    assert guarded.client.post(URL, content=picture, headers=headers).status_code == 200
    assert "Traceback" not in guarded.log.read_text()
