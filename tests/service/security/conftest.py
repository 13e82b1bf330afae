import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.security.keys import KeyFile
from service.security.roles import Role
from tests.service.running import RunningServer, running_server

HEADER_SECONDS = 1.0
BODY_SECONDS = 1.5
MAX_HEADERS = 40
MAX_HEADER_BYTES = 4096
MAX_BODY_BYTES = 400_000


@pytest.fixture(scope="session")
def guarded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="session")
def keys(guarded_folder: Path) -> dict[Role, str]:
    """A key of each role, named as its role."""
    file = KeyFile(guarded_folder / "data")
    return {role: file.create(str(role), role) for role in Role}


@pytest.fixture(scope="session")
def guarded(bundle_folder: Path, guarded_folder: Path, keys: dict[Role, str]) -> Iterator[RunningServer]:
    """A server that wants keys, reachable on every address, with narrow limits."""
    flags = {
        "--host": "0.0.0.0",  # noqa: S104
        "--header-seconds": HEADER_SECONDS,
        "--body-seconds": BODY_SECONDS,
        "--max-headers": MAX_HEADERS,
        "--max-header-bytes": MAX_HEADER_BYTES,
        "--max-body-bytes": MAX_BODY_BYTES,
        "--max-connections": 24,
    }
    arguments = [str(part) for flag in flags.items() for part in flag]
    with running_server(bundle_folder, guarded_folder, *arguments) as running:
        yield running


@contextmanager
def connected(server: RunningServer, seconds: float = 10.0) -> Iterator[socket.socket]:
    """A bare connection, on which reading fails after so many seconds."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset closes too."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


def read_answer(connection: socket.socket) -> bytes:
    """One whole answer; what came until then where the server closes."""
    received = b""
    while part := connection.recv(65536):
        received += part
        head, found, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if found and length and len(body) >= int(length[1]):
            break
    return received


def problem_in(answer: bytes) -> dict:
    """The problem document of a bare HTTP answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:300]
    return json.loads(body)


def lines(server: RunningServer, **wanted: object) -> list[dict]:
    """The lines of the server's log that have these fields."""
    found = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if wanted.items() <= line.items()]


def clean_environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("UNISPECT_")} | more
