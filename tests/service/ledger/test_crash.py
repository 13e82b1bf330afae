"""SIGKILL at random moments under load: every inspection that was acknowledged is in the ledger afterwards."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import RAW
from tests.service.ledger.stored import stored, stored_ids
from tests.service.running import RunningServer, running_server

_CLIENTS = 4
_MOST_BEFORE = 40
_SECONDS = 60.0


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_no_acknowledged_inspection_is_lost_when_the_service_is_killed(
    kills: int, bundle_folder: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    chance = random.Random(kills)  # noqa: S311
    acknowledged: list[str] = []
    for kill in range(kills):
        with running_server(bundle_folder, tmp_path) as server, ThreadPoolExecutor(_CLIENTS) as threads:
            killed = threading.Event()
            clients = [threads.submit(post_until, killed, server, pictures, acknowledged) for _ in range(_CLIENTS)]
            wait_for(len(acknowledged) + chance.randint(1, _MOST_BEFORE), acknowledged)
            time.sleep(chance.uniform(0.0, 0.05))
            server.process.kill()
            server.process.wait()
            killed.set()
            for client in clients:
                client.result()
        lost = set(acknowledged) - stored_ids(tmp_path / "data")
        assert not lost, f"{len(lost)} of {len(acknowledged)} are lost after kill {kill + 1}."
        assert stored(tmp_path / "data", "PRAGMA integrity_check") == [("ok",)]


def post_until(killed: threading.Event, server: RunningServer, pictures: list[bytes], acknowledged: list[str]) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while not killed.is_set():
            for picture in pictures:
                try:
                    response = client.post("/v1/inspections", content=picture, headers=RAW)
                except httpx.TransportError:
                    break
                assert response.status_code == 200, response.text
                acknowledged.append(response.json()["id"])


def wait_for(count: int, acknowledged: list[str]) -> None:
    deadline = time.monotonic() + _SECONDS
    while len(acknowledged) < count:
        assert time.monotonic() < deadline, f"{len(acknowledged)} inspections in {_SECONDS:.0f} s"
        time.sleep(0.001)
