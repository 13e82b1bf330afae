"""Whether a plant can rely on the service: under overload, while engines change, over time; its cost.

    python -m benchmarks.reliability overload BUNDLE [--seconds 60] [--deadline-ms 250]
    python -m benchmarks.reliability swap BUNDLE [--activations 200]
    python -m benchmarks.reliability soak BUNDLE [--minutes 30]
    python -m benchmarks.reliability cost BUNDLE [--ledger-sync normal]

Client and service share the machine. Each prints its figures as JSON, and exits with 1 where one is not as wanted.
"""

import argparse
import asyncio
import io
import json
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import psutil
from rich.progress import Progress

from benchmarks.load import Answers, BlockingConnection, closed_loop, in_threads, open_loop
from benchmarks.running import jpeg_of, start, stop
from benchmarks.service import timed
from engines import bundle as bundles
from engines.detector import Detector

CLIENTS = 4
BLOCK, ROUNDS = 100, 12


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overload", "swap", "soak", "cost"))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--deadline-ms", type=int, default=250)
    parser.add_argument("--activations", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--ledger-sync", default="full")
    options = parser.parse_args()
    data = jpeg_of(bundles.load(options.bundle))
    with tempfile.TemporaryDirectory() as folder:
        _, server, port = start(options.bundle, Path(folder) / "data", "--ledger-sync", options.ledger_sync)
        try:
            process = psutil.Process(server.pid)
            match options.what:
                case "overload":
                    figures = asyncio.run(overload(process, port, data, options.seconds, options.deadline_ms))
                case "swap":
                    figures = asyncio.run(swap(options.bundle, Path(folder), port, data, options.activations))
                case "cost":
                    figures = cost(options.bundle, port, data)
                case _:
                    figures = asyncio.run(soak(process, port, data, options.minutes))
        finally:
            stop(server)
    print(json.dumps(figures, indent=1))
    return 0 if figures["as_wanted"] else 1


async def overload(
    process: psutil.Process, port: int, data: bytes, seconds: float, deadline_ms: int
) -> dict[str, object]:
    """Three times the capacity, open loop: latency of what is accepted and of what is refused, memory."""
    capacity = await closed_loop(port, data, CLIENTS, 10.0, Answers())
    before = process.memory_info().rss
    answers = Answers()
    await open_loop(port, data, 3 * capacity, seconds, answers, (f"X-Unispect-Deadline-Ms: {deadline_ms}",))
    accepted, refused = answers.seconds.get(200, []), answers.seconds.get(503, [])
    late = answers.seconds.get(504, [])
    accepted_ms = _spread(accepted)
    figures: dict[str, object] = {
        "capacity_per_second": round(capacity, 1),
        "offered_per_second": round(3 * capacity, 1),
        "accepted_per_second": round(len(accepted) / seconds, 1),
        "answers": {status: len(times) for status, times in sorted(answers.seconds.items())},
        "broken_connections": len(answers.failures),
        "deadline_ms": deadline_ms,
        "accepted_ms": accepted_ms,
        "refused_ms": _spread(refused),
        "rss_mb": {"before": before // 2**20, "after": process.memory_info().rss // 2**20},
    }
    figures["as_wanted"] = bool(
        accepted
        and refused
        and not answers.failures
        and accepted_ms["p99"] < deadline_ms
        and len(late) < 0.01 * len(accepted)
    )
    return figures


async def swap(bundle: Path, folder: Path, port: int, data: bytes, activations: int) -> dict[str, object]:
    """Activations and rollbacks under load: failed requests, and thresholds seen by engine version."""
    _upload(_other_version(bundle, folder / "other"), port)
    manifest = bundles.load(folder / "other").manifest
    paths = (f"/v1/engines/{manifest.name}/versions/{manifest.version}/activate", "/v1/engines/rollback")
    answers, seconds, over = Answers(), [], asyncio.Event()

    async def load() -> None:
        while not over.is_set():
            await closed_loop(port, data, CLIENTS, 1.0, answers)

    loading = asyncio.create_task(load())
    with Progress() as progress:
        for number in progress.track(range(activations), description="Activations"):
            began = time.perf_counter()
            await asyncio.to_thread(_post, port, paths[number % 2], b"")
            seconds.append(time.perf_counter() - began)
    over.set()
    await loading
    # One picture has one threshold in each version.
    mixed = any(len(thresholds) != 1 for thresholds in answers.versions.values())
    return {
        "activations": activations,
        "activation_seconds": _spread(seconds, 1.0),
        "answers": {status: len(times) for status, times in sorted(answers.seconds.items())},
        "broken_connections": len(answers.failures),
        "thresholds_by_version": {version: sorted(found) for version, found in answers.versions.items()},
        "request_ms": _spread(answers.seconds.get(200, [])),
        "as_wanted": set(answers.seconds) == {200}
        and not answers.failures
        and not mixed
        and len(answers.versions) == 2,
    }


async def soak(process: psutil.Process, port: int, data: bytes, minutes: float) -> dict[str, object]:
    """At 80 % of capacity: memory, open files, and the trend of latency."""
    capacity = await closed_loop(port, data, CLIENTS, 20.0, Answers())
    medians, memory, files = [], [], []
    failed = 0
    with Progress() as progress:
        for _ in progress.track(range(max(4, round(minutes))), description="Minutes"):
            answers = Answers()
            await open_loop(port, data, 0.8 * capacity, 60.0, answers)
            failed += len(answers.failures) + answers.count - len(answers.seconds.get(200, []))
            medians.append(1000 * statistics.median(answers.seconds[200]))
            memory.append(process.memory_info().rss / 2**20)
            # The minute's connections are not files that stay open: the service has yet to see their ends.
            await asyncio.sleep(1.0)
            files.append(process.num_fds())
    # The first minutes fill caches and pools.
    settled = memory[len(memory) // 6 :]
    growth = settled[-1] / settled[0] - 1
    trend = np.polyfit(range(len(medians)), medians, 1)[0] * len(medians) / statistics.median(medians)
    return {
        "per_second": round(0.8 * capacity, 1),
        "minutes": len(medians),
        "failed": failed,
        "rss_mb": [round(value, 1) for value in memory],
        "rss_growth": round(growth, 4),
        "open_files": files,
        "median_ms": [round(value, 2) for value in medians],
        "latency_trend": round(float(trend), 4),
        "as_wanted": not failed and growth < 0.02 and max(files) - min(files) <= 8,
    }


def cost(bundle: Path, port: int, data: bytes) -> dict[str, object]:
    """The service beside decoding, engine and post-processing alone in one process, in turn."""
    detector = Detector.open(bundles.load(bundle))
    detector.check_golden()
    connection = BlockingConnection(port)
    bare, alone, rates, bare_rates = [], [], [], []
    for block in range(ROUNDS + 1):
        milliseconds = [timed(lambda: detector.inspect(data)) for _ in range(BLOCK)]
        served = [timed(lambda: connection.post(data)) for _ in range(BLOCK)]
        rate = in_threads(port, data, CLIENTS, 2.0)
        if block:  # The first block warms up.
            bare += milliseconds
            alone += served
            rates.append(rate)
            bare_rates.append(1000 * BLOCK / sum(milliseconds))
    ratio = statistics.median(one / other for one, other in zip(rates, bare_rates, strict=True))
    adds = statistics.median(alone) - statistics.median(bare)
    return {
        "bare_ms": _spread(bare, 1.0),
        "one_client_ms": _spread(alone, 1.0),
        "service_adds_ms_p50": round(adds, 3),
        "bare_per_second": round(statistics.median(bare_rates), 1),
        "service_per_second": round(statistics.median(rates), 1),
        "throughput_ratio": round(ratio, 3),
        "as_wanted": adds <= 1.0 and ratio >= 0.95,
    }


def _other_version(bundle: Path, folder: Path) -> bytes:
    """The bundle with thresholds twice as high, so that its answers are known from the other's."""
    shutil.copytree(bundle, folder)
    manifest = bundles.load(folder).manifest
    parts = [part.model_copy(update={"threshold": 2 * part.threshold}) for part in manifest.part_classes]
    version = f"{manifest.version[:50]}-other"
    bundles.save_manifest(folder, manifest.model_copy(update={"version": version, "part_classes": parts}))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    return buffer.getvalue()


def _upload(archive: bytes, port: int) -> None:
    _post(port, "/v1/engines", archive)


def _post(port: int, path: str, body: bytes) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/zip"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
        response.read()


def _spread(seconds: list[float], scale: float = 1000.0) -> dict[str, float]:
    if not seconds:
        return {}
    values = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    return {name: round(float(np.percentile(seconds, share)) * scale, 2) for name, share in values.items()}


if __name__ == "__main__":
    sys.exit(main())
