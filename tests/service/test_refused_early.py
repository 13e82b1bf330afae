"""A service whose ledger cannot be written refuses images before it reads them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.bundle import Manifest
from tests.service.running import RunningServer, running_server
from tests.service.security.conftest import connected, read_answer


@pytest.fixture(scope="module")
def without_ledger(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("without-ledger")
    ledger = f"sqlite:///{folder / 'nowhere' / 'ledger.sqlite3'}"
    with running_server(bundle_folder, folder, "--ledger", ledger, wait=False) as server:
        server.wait_for(lambda: server.client.get("/readyz").json()["stage"] == "waiting for the ledger")
        yield server


@pytest.mark.parametrize("path", ["/v1/inspections", "/v1/inspections:batch", "/v2/models/{name}/infer"])
def test_no_body_is_waited_for(without_ledger: RunningServer, manifest: Manifest, path: str) -> None:
    head = f"POST {path.format(name=manifest.name)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    with connected(without_ledger, seconds=5) as connection:
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"The ledger" in answer
