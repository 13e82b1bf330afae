"""unispect beside LitServe, MLServer and BentoML serving the same engine: latency at one client, throughput at four.

    python -m benchmarks.serving.compare BUNDLE --environments FOLDER [--rounds 5] [--json FILE]

Each server has an environment of its own, which the first run makes in FOLDER, runs the bundle by the same code
(`judging.py`), has one worker, and takes an image in its own usual way; all must give the same score. unispect also
has each inspection in its ledger, and on the disk, before it answers; a second row shows it without the wait for the
disk. The servers take turns in each round, in an order that moves on, so that a busy
moment of the machine meets all.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.progress import Progress

from benchmarks.load import Connection
from benchmarks.running import jpeg_of
from benchmarks.serving.environments import environment, version_of
from benchmarks.serving.servers import SERVERS, Running, running
from engines import bundle as bundles
from engines.detector import Detector

CLIENTS = 4
WARM_UP = 30


def main() -> None:
    """Print a table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="of the one client in each round")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the four clients in each round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    programs = {name: _programs(name, options.environments) for name in options.servers}
    bundle = bundles.load(options.bundle)
    data = jpeg_of(bundle)
    score = Detector.open(bundle).inspect(data).score
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(running(name, programs[name], options.bundle, data, score))
            for name in options.servers
        }
        figures = asyncio.run(compare(started, options.rounds, options.requests, options.seconds))
    for name, measured in figures.items():
        measured["version"] = version_of(programs[name], name.partition(",")[0])
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps({"jpeg_bytes": len(data), "servers": figures}, indent=1) + "\n")


async def compare(started: dict[str, Running], rounds: int, requests: int, seconds: float) -> dict[str, dict]:
    """Milliseconds at one client, pooled over the rounds, and requests a second at `CLIENTS`, their median."""
    names = list(started)
    latencies: dict[str, list[float]] = {name: [] for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    for one in started.values():
        await _one_client(one, WARM_UP)
    with Progress(transient=True) as progress:
        task = progress.add_task("Measuring", total=rounds * len(names))
        for number in range(rounds):
            for name in _turned(names, number):
                latencies[name] += await _one_client(started[name], requests)
                rates[name].append(await _throughput(started[name], seconds))
                progress.advance(task)
    return {
        name: {
            "latency_ms": {f"p{q}": float(np.percentile(latencies[name], q)) for q in (50, 95, 99)},
            "requests_per_second": {"median": statistics.median(rates[name]), "rounds": rates[name]},
        }
        for name in names
    }


def table(figures: dict[str, dict]) -> str:
    """As Markdown."""
    lines = [
        f"| server | p50 at one client, ms | p95, ms | requests per second at {CLIENTS} clients |",
        "|---|---|---|---|",
    ]
    for name, measured in figures.items():
        latency, rate = measured["latency_ms"], measured["requests_per_second"]["median"]
        lines.append(f"| {name} ({measured['version']}) | {latency['p50']:.2f} | {latency['p95']:.2f} | {rate:.0f} |")
    return "\n".join(lines)


def _programs(name: str, folder: Path) -> Path:
    packages = SERVERS[name].packages
    return environment(folder.resolve() / name, packages) if packages else Path(sys.executable).parent


def _turned(names: list[str], number: int) -> Iterable[str]:
    first = number % len(names)
    return names[first:] + names[:first]


async def _one_client(server: Running, requests: int) -> list[float]:
    connection = await Connection.open(server.port)
    milliseconds = []
    for _ in range(requests):
        began = time.perf_counter()
        connection = await _post(connection, server)
        milliseconds.append((time.perf_counter() - began) * 1e3)
    connection.close()
    return milliseconds


async def _throughput(server: Running, seconds: float) -> float:
    began = time.perf_counter()

    async def client() -> int:
        connection, answers = await Connection.open(server.port), 0
        while time.perf_counter() - began < seconds:
            connection = await _post(connection, server)
            answers += 1
        connection.close()
        return answers

    answers = sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))
    return answers / (time.perf_counter() - began)


async def _post(connection: Connection, server: Running) -> Connection:
    """One request; the connection for the next."""
    request = server.request
    status, body, kept = await connection.post(request.body, path=request.path, media_type=request.media_type)
    if status != 200:
        raise SystemExit(f"The server on port {server.port} answered {status}: {body[:200].decode(errors='replace')}")
    if kept:
        return connection
    connection.close()
    return await Connection.open(server.port)


if __name__ == "__main__":
    main()
