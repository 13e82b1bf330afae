"""What it costs to be watched: /metrics with 15 part classes, and throughput with and without who watches.

    python -m benchmarks.observing BUNDLE [--blocks 20] [--seconds 5] [--clients 2] [--json FILE]

The watchers are a scraper, once a second, and a live page: the stream of inspections, read as it comes.
Blocks with and without them take turns on one server, in both orders, so that a busy moment of the machine meets both.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from benchmarks.load import CHUNK, in_threads
from benchmarks.running import jpeg_of, start, stop
from engines import bundle as bundles

CLASSES = 15
MOST_SERIES = 200
SCRAPES = 200
# What Prometheus 2 and 3 send.
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--blocks", type=int, default=20, help="of each kind")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a block")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = widen(arguments.bundle, Path(folder) / "wide", CLASSES)
        data = jpeg_of(bundles.load(bundle))
        _, server, port = start(bundle, Path(folder) / "data")
        try:
            in_threads(port, data, arguments.clients, 2.0)
            figures = scraping(port)
            figures |= throughput(server.pid, port, data, arguments.clients, arguments.blocks, arguments.seconds)
        finally:
            stop(server)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def widen(bundle: Path, out: Path, classes: int) -> Path:
    """A copy of a bundle, its version the folder's name, with `classes` part classes: its own, under further names."""
    manifest = bundles.load(bundle).manifest
    own = manifest.part_classes
    more = [own[i % len(own)].model_copy(update={"name": f"part-class-{i}"}) for i in range(classes - len(own))]
    shutil.copytree(bundle, out)
    bundles.save_manifest(out, manifest.model_copy(update={"version": out.name, "part_classes": [*own, *more]}))
    return out


def scraping(port: int) -> dict[str, object]:
    """Milliseconds of /metrics over a kept connection, and how many series and bytes it has."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    milliseconds = []
    for _ in range(SCRAPES):
        began = time.perf_counter()
        body = scrape(connection)
        milliseconds.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.01)
    series = sum(1 for line in body.splitlines() if line and not line.startswith(b"#"))
    quantiles = {f"p{q}": float(np.percentile(milliseconds, q)) for q in (50, 95, 99)}
    return {"part_classes": CLASSES, "series": series, "bytes": len(body), "metrics_ms": quantiles}


def scrape(connection: http.client.HTTPConnection) -> bytes:
    """What Prometheus gets."""
    connection.request("GET", "/metrics", headers={"Accept": ACCEPT})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise SystemExit(body.decode(errors="replace"))
    return body


def throughput(server: int, port: int, data: bytes, clients: int, blocks: int, seconds: float) -> dict[str, object]:
    """With and without watchers: answers a second, and the processor's time that each costs the server.

    Both ratios are of neighbouring blocks, those of the time without watchers over with them, with 95 % intervals.
    """
    measured: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    seen = 0
    for block in range(blocks):
        for watched in (True, False) if block % 2 else (False, True):
            with watching(port) if watched else nullcontext([0]) as events:
                measured[watched].append(_block(server, port, data, clients, seconds))
            seen += events[0]
    watched_rates, watched_costs = np.array(measured[True]).T
    rates, costs = np.array(measured[False]).T
    return {
        "clients": clients,
        "blocks": blocks,
        "seconds": seconds,
        "events_seen": seen,
        "per_second": {"watched": float(np.median(watched_rates)), "alone": float(np.median(rates))},
        "cpu_ms": {"watched": float(np.median(watched_costs)) * 1e3, "alone": float(np.median(costs)) * 1e3},
        "throughput_ratio": _median(watched_rates / rates),
        "cpu_ratio": _median(costs / watched_costs),
    }


def _block(server: int, port: int, data: bytes, clients: int, seconds: float) -> tuple[float, float]:
    """Answers a second, and seconds of the server's processor time for each."""
    began, before = time.perf_counter(), _cpu_seconds(server)
    rate = in_threads(port, data, clients, seconds)
    return rate, (_cpu_seconds(server) - before) / (rate * (time.perf_counter() - began))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watching(port: int) -> Iterator[list[int]]:
    """Scrape each second and read the live stream for as long as the block lasts; counts the stream's events."""
    done = threading.Event()
    events = [0]
    stream = socket.create_connection(("127.0.0.1", port), timeout=30)
    # A page is on another machine: here it wakes for many events at a time, and takes the engine's cores seldom.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, CHUNK)
    stream.sendall(b"GET /v1/inspections/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")

    def listen() -> None:
        while chunk := _received(stream):
            events[0] += chunk.count(b"event: inspection")

    def scrape_regularly() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not done.wait(1.0):
            scrape(connection)
        connection.close()

    threads = [threading.Thread(target=listen), threading.Thread(target=scrape_regularly)]
    for thread in threads:
        thread.start()
    try:
        yield events
    finally:
        done.set()
        stream.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        stream.close()


def _received(stream: socket.socket) -> bytes:
    try:
        return stream.recv(CHUNK)
    except OSError:
        return b""


def _median(ratios: np.ndarray) -> dict[str, float]:
    """With the interval of its bootstrap."""
    medians = np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
