"""What serving adds: HTTP's latency beside the bare inspection, time from start to ready, memory after many requests.

    python -m benchmarks.service BUNDLE [--requests 10000] [--json FILE]

Server and bare inspection take turns in blocks, so that a busy moment of the machine meets both.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.load import BlockingConnection
from benchmarks.running import jpeg_of, start, stop
from engines import bundle as bundles
from engines.bundle import Bundle
from engines.detector import Detector

BLOCK = 50
BLOCKS = 20


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


def latency(bundle: Bundle, data: bytes, port: int) -> dict[str, object]:
    """Milliseconds of one inspection at a time: by HTTP over one connection, and bare."""
    detector = Detector.open(bundle)
    detector.check_golden()
    connection = BlockingConnection(port)
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
    connection = BlockingConnection(port)
    before = resident(pid)
    began = time.perf_counter()
    for _ in range(requests):
        connection.post(data)
    rate = requests / (time.perf_counter() - began)
    return {"requests": requests, "rss_mb": {"before": before, "after": resident(pid)}, "requests_per_second": rate}


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
