"""Downloads, from a real HTTP server on this machine: checked, cached, resumed."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from build_engines.errors import WeightsError
from build_engines.networks.download import cache_folder, fetch

CONTENT = bytes(range(256)) * 8192
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


class FileHandler(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; `/cut-…` ends after half of what was asked, once."""

    cut = True
    ranges: list[str]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).ranges.append(asked or "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/cut-") and type(self).cut:
            type(self).cut = False
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[str]:
    monkeypatch.setenv("UNISPECT_CACHE_DIR", f"{tmp_path}/cache")
    FileHandler.cut, FileHandler.ranges = True, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FileHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_file_is_fetched_once(address: str) -> None:
    first = fetch(f"{address}/a.pth", DIGEST)
    assert first.read_bytes() == CONTENT
    assert fetch(f"{address}/a.pth", DIGEST) == first
    assert len(FileHandler.ranges) == 1


def test_interrupted_download_goes_on_where_it_stopped(address: str) -> None:
    with pytest.raises(WeightsError, match="call again to continue"):
        fetch(f"{address}/cut-a.pth", DIGEST)
    assert fetch(f"{address}/cut-a.pth", DIGEST).read_bytes() == CONTENT
    assert FileHandler.ranges == ["", f"bytes={len(CONTENT) // 2}-"]


def test_wrong_digest_is_refused_and_deleted(address: str) -> None:
    with pytest.raises(WeightsError, match="should begin with 00000000"):
        fetch(f"{address}/a.pth", "00000000")
    assert not list(cache_folder().iterdir())


def test_unreachable_server_names_the_ways_out(address: str) -> None:
    with pytest.raises(WeightsError, match="--teacher-weights procedural"):
        fetch("http://127.0.0.1:9/a.pth", DIGEST)
