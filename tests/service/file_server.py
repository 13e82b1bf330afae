"""A web server with one file, which can be told to misbehave."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What it answers, and what it was asked.

    Attributes:
        content: of the file, at any path.
        etag: that it is given with; none where it is empty.
        status: of every answer; with 302 the header Location is `location`.
        needed: the header Authorization that a request needs; none where it is empty.
        promised: bytes of the Content-Length; None tells the truth, -1 gives none at all.
        drip_seconds: between two parts of the file.
        asked: methods and paths, in order.
    """

    content: bytes = b""
    etag: str = ""
    status: int = 200
    location: str = ""
    needed: str = ""
    promised: int | None = None
    drip_seconds: float = 0.0
    asked: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def downloads(self) -> int:
        return sum(line.startswith("GET ") for line in self.asked)


@contextmanager
def file_server(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", **told: object) -> Iterator[FileServer]:
    """Serve on a free port until the block ends."""
    state = FileServer(**told)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            state.asked.append(f"{self.command} {self.path}")
            allowed = not state.needed or self.headers.get("Authorization") == state.needed
            status = state.status if allowed else 401
            self.send_response(status)
            if status == 302:
                self.send_header("Location", state.location)
            if state.etag and status == 200:
                self.send_header("ETag", state.etag)
            content = state.content if status == 200 else b""
            promised = len(content) if state.promised is None or status != 200 else state.promised
            if promised >= 0:
                self.send_header("Content-Length", str(promised))
            self.end_headers()
            if with_body:
                self.send(content)

        def send(self, content: bytes) -> None:
            try:
                for at in range(0, len(content), 4096):
                    self.wfile.write(content[at : at + 4096])
                    if state.drip_seconds:
                        self.wfile.flush()
                        time.sleep(state.drip_seconds)
            except OSError:
                pass  # the other side has had enough

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if tls else 'http'}://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
