"""The demonstration behind `make demo`: synthetic parts, an engine of them, a server, two inspections."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from build_engines.data.folder import TestImage, find_parts, find_tests
from engines import bundle as bundles
from engines import heatmap
from engines.errors import BundleError, UnispectError
from engines.images import decode_original

CLASSES = 4
EPOCHS = 32
_READY_SECONDS = 60.0

console = Console(highlight=False)


def main() -> None:
    """Build what is missing in --folder, serve it on --port and stay up until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--once", action="store_true", help="stop after the two inspections")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        engine = _engine(arguments.folder)
        with _server(engine, arguments.folder / "service", arguments.port) as address:
            _inspect(address, arguments.folder)
            console.print(f"\nPage     {address}/\nMetrics  {address}/metrics\nAPI      {address}/docs")
            if not arguments.once:
                console.print("\nThe server is up until you press Ctrl-C.")
                signal.pause()
    except KeyboardInterrupt:
        console.print("\nStopped.")
    except UnispectError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _engine(folder: Path) -> Path:
    engine = folder / "engines" / "demo"
    try:
        bundles.load(engine)
    except BundleError:
        _build(folder, engine)
    return engine


def _build(folder: Path, engine: Path) -> None:
    # Torch takes seconds to import, and a second demo does not need it.
    from build_engines.commands.quantize import quantize_run
    from build_engines.commands.train import train_run
    from build_engines.data.synthetic import generate

    parts, run = folder / "parts", folder / "run"
    if not parts.exists():
        generate(parts, classes=CLASSES, seed=0)
    train_run(data=parts, out=run, teacher_weights="procedural", epochs=EPOCHS, resume=True, console=console)
    quantize_run(run, engine, console=console)


@contextmanager
def _server(engine: Path, data: Path, port: int) -> Iterator[str]:
    """The service as a process of its own; yields its address once it is ready."""
    address = f"http://127.0.0.1:{port}"
    settings = {
        "UNISPECT_BUNDLE": engine,
        "UNISPECT_DATA_DIR": data,
        "UNISPECT_HOST": "127.0.0.1",
        "UNISPECT_PORT": port,
    }
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    data.mkdir(parents=True, exist_ok=True)
    with (data / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "service"], env=environment, stdout=log, stderr=log)
    try:
        _wait_ready(process, address, data / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = log.read_text().strip().splitlines()[-1:] or ["no message"]
            raise UnispectError(f"The server stopped: {last[0]}")
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise UnispectError(f"The server was not ready within {_READY_SECONDS:.0f} s; see {log}.")


def _inspect(address: str, folder: Path) -> None:
    tests = _tests_by_class(folder / "parts")
    first = next(iter(tests.values()))
    good = next(test.path for test in first if test.is_good)
    defect = next(test.path for test in first if not test.is_good)
    for title, path in (("A good part", good), ("A defective part", defect)):
        answer = _judge(address, path)
        console.print(
            f"{title} ({path}): [bold]{answer['verdict']}[/bold], score {answer['score']:.4g}, "
            f"threshold {answer['threshold']:.4g}, p-value {answer['p_value']:.3f}, "
            f"recognised as {answer['part_class']}, {answer['timing_ms']['total']:.1f} ms"
        )
    heatmaps = folder / "heatmaps.png"
    heatmaps.write_bytes(_heatmaps(address, tests))
    console.print(f"Defects it found, and their heatmaps: {heatmaps}")


def _tests_by_class(parts: Path) -> dict[str, list[TestImage]]:
    names = [part.name for part in find_parts(parts)]
    return {name: find_tests(parts, [name]) for name in names}


def _heatmaps(address: str, tests: dict[str, list[TestImage]]) -> bytes:
    """A PNG: of each class the first defective part that fails, and below it the same with its heatmap."""
    columns = []
    for index, of_class in enumerate(tests.values()):
        defects = list(dict.fromkeys(test.defect for test in of_class if not test.is_good))
        # Each class begins with another defect, so that the picture shows several.
        turned = [*defects[index % len(defects) :], *defects[: index % len(defects)]]
        paths = [test.path for defect in turned for test in of_class if test.defect == defect]
        path = next((path for path in paths if _judge(address, path)["verdict"] == "fail"), paths[0])
        pictures = (path.read_bytes(), _post(f"{address}/v1/inspections", path, "image/png"))
        columns.append(np.concatenate([decode_original(picture, heatmap.MAX_OVERLAY_SIDE) for picture in pictures]))
    return heatmap.encode_png(np.concatenate(columns, axis=1))


def _judge(address: str, path: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(_post(f"{address}/v1/inspections", path, "application/json"))
    return answer


def _post(url: str, path: Path, accept: str) -> bytes:
    headers = {"Content-Type": "image/png", "Accept": accept}
    request = urllib.request.Request(url, path.read_bytes(), headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
        return bytes(response.read())


if __name__ == "__main__":
    main()
