"""What serving adds: HTTP's latency beside the bare inspection, time from start to ready, memory after many requests.

    python benchmarks/service.py BUNDLE [--requests 10000] [--json FILE]

Server and bare inspection take turns in blocks, so that a busy moment of the machine meets both.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from engines import bundle as bundles
from engines.bundle import Bundle
from engines.detector import Detector

BLOCK = 50
BLOCKS = 20
JPEG_BYTES = 100_000


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = bundles.load(arguments.bundle)
    data = jpeg_of(bundle)
    with tempfile.TemporaryDirectory() as folder:
        cold, server, _ = start(arguments.bundle, Path(folder))
        stop(server)
        warm, server, port = start(arguments.bundle, Path(folder))
        try:
            figures = {"jpeg_bytes": len(data), "start_seconds": {"cold": cold, "cached": warm}}
            figures |= latency(bundle, data, port)
            figures |= memory(server.pid, data, port, arguments.requests)
        finally:
            stop(server)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def jpeg_of(bundle: Bundle) -> bytes:
    """The golden image enlarged to 640 pixels, as a JPEG of some 100 kB."""
    image = cv2.resize(cv2.imread(str(bundle.golden_path)), (640, 640), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    sizes = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for quality in range(40, 100, 2)]
    return min(sizes, key=lambda encoded: abs(len(encoded) - JPEG_BYTES)).tobytes()


def start(bundle: Path, data: Path) -> tuple[float, subprocess.Popen[bytes], int]:
    """Start the service; seconds until /readyz says yes, the process, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--bundle", str(bundle), "--data-dir", str(data), "--port", str(port)]
    began = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "service", *flags], stderr=subprocess.DEVNULL)
    while time.perf_counter() - began < 60:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return time.perf_counter() - began, server, port
        except OSError:
            pass
        time.sleep(0.01)
    raise SystemExit("The service was not ready within a minute.")


def stop(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and wait."""
    server.send_signal(signal.SIGTERM)
    server.wait(timeout=30)


def latency(bundle: Bundle, data: bytes, port: int) -> dict[str, object]:
    """Milliseconds of one inspection at a time: by HTTP over one connection, and bare."""
    detector = Detector.open(bundle)
    detector.check_golden()
    connection = Connection(port)
    served: list[float] = []
    bare: list[float] = []
    for block in range(BLOCKS + 1):
        over_http = [timed(lambda: connection.post(data)) for _ in range(BLOCK)]
        directly = [timed(lambda: detector.inspect(data)) for _ in range(BLOCK)]
        if block:  # The first block warms up.
            served += over_http
            bare += directly
    return {
        "http_ms": spread(served),
        "bare_ms": spread(bare),
        "http_adds_ms_p50": float(np.median(served) - np.median(bare)),
    }


def memory(pid: int, data: bytes, port: int, requests: int) -> dict[str, object]:
    """Resident megabytes of the server before and after `requests` inspections."""
    connection = Connection(port)
    before = resident(pid)
    began = time.perf_counter()
    for _ in range(requests):
        connection.post(data)
    rate = requests / (time.perf_counter() - began)
    return {"requests": requests, "rss_mb": {"before": before, "after": resident(pid)}, "requests_per_second": rate}


class Connection:
    """A kept connection that does no more than HTTP asks, so that the server is measured and not the client."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, data: bytes) -> bytes:
        """Inspect a JPEG; the answer's body."""
        lines = (
            "POST /v1/inspections HTTP/1.1",
            "Host: localhost",
            "Content-Type: image/jpeg",
            f"Content-Length: {len(data)}",
        )
        self._socket.sendall("\r\n".join((*lines, "", "")).encode() + data)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._socket.recv(65536)
        length = int(answer[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(answer) < end + 4 + length:
            answer += self._socket.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(answer.decode(errors="replace"))
        return answer[end + 4 :]


def timed(call: object) -> float:
    """Milliseconds that a call takes."""
    began = time.perf_counter()
    call()  # type: ignore[operator]
    return (time.perf_counter() - began) * 1e3


def resident(pid: int) -> float:
    """Resident set size in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Median, p95 and p99."""
    return {f"p{q}": float(np.percentile(milliseconds, q)) for q in (50, 95, 99)}


if __name__ == "__main__":
    main()
