"""Re-inspection on Ray beside the bare engine: images a second on all cores of this machine, in turn.

    python -m benchmarks.archive BUNDLE [--images 4000] [--rounds 3] [--json FILE]

Each image is a JPEG of 640 x 640 pixels and some 100 kB, read from its file, decoded, inferred and judged. Beside
`build-engines score` there are two bare loops without Ray: one process whose engine has all cores, and a process a core
whose engine has one. The command is timed whole with all images and with a tenth of them: the difference is its rate
once it runs, the whole is what a user waits for. The processors' time of all processes together tells the same where
others keep the machine busy.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import numpy as np
import psutil

from benchmarks.running import jpeg_of
from engines import bundle as bundles
from engines.detector import Detector

BACKEND = "openvino"
LOOP, PROCESSES, RAY, RAY_WHOLE = "one process", "a process a core", "Ray, running", "Ray, whole command"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Took:
    """What some images took: seconds on the clock, and of all processors together."""

    images: int
    seconds: float
    cpu: float

    def __sub__(self, other: "Took") -> "Took":
        return Took(self.images - other.images, self.seconds - other.seconds, self.cpu - other.cpu)


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds: dict[str, list[Took]] = {LOOP: [], PROCESSES: [], RAY: [], RAY_WHOLE: []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        many = archive(arguments.bundle, folder / "many", arguments.images)
        few = archive(arguments.bundle, folder / "few", arguments.images // 10)
        for _ in range(arguments.rounds):
            rounds[LOOP].append(one_process(arguments.bundle, many))
            rounds[PROCESSES].append(process_a_core(arguments.bundle, many))
            whole, start = (command(arguments.bundle, one, folder / "scores.parquet") for one in (many, few))
            rounds[RAY].append(whole - start)
            rounds[RAY_WHOLE].append(whole)
    rates = medians(rounds, lambda took: took.images / took.seconds)
    costs = medians(rounds, lambda took: took.cpu * 1e3 / took.images)
    figures = {
        "images": arguments.images,
        "cores": len(os.sched_getaffinity(0)),
        "images_per_second": rates,
        "cpu_ms_per_image": costs,
        "rate_of": {bare: {ray: rates[ray] / rates[bare] for ray in (RAY, RAY_WHOLE)} for bare in (LOOP, PROCESSES)},
    }
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def medians(rounds: dict[str, list[Took]], figure: Callable[[Took], float]) -> dict[str, float]:
    """Of a figure, over the rounds."""
    return {name: float(np.median([figure(took) for took in found])) for name, found in rounds.items()}


def archive(bundle: Path, folder: Path, count: int) -> list[Path]:
    """A folder of so many files of one picture."""
    folder.mkdir()
    first = folder / "0.jpg"
    first.write_bytes(jpeg_of(bundles.load(bundle)))
    paths = [first, *(folder / f"{number}.jpg" for number in range(1, count))]
    for path in paths[1:]:
        os.link(first, path)
    return paths


def one_process(bundle: Path, paths: list[Path]) -> Took:
    """A loop whose engine has all cores."""
    detector = Detector.open(bundles.load(bundle), BACKEND)
    detector.check_golden()
    return inspect(detector, paths)


def process_a_core(bundle: Path, paths: list[Path]) -> Took:
    """Such a loop a core, each with its share of the images."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    barrier, took = context.Barrier(cores + 1), context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(bundle, paths[number::cores], barrier, took)) for number in range(cores)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    began = time.perf_counter()
    cpu = sum(took.get() for _ in workers)
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    return Took(len(paths), seconds, cpu)


def command(bundle: Path, paths: list[Path], out: Path) -> Took:
    """`build-engines score`, from its start to its end."""
    out.unlink(missing_ok=True)
    options = ["--engine", bundle, "--input", paths[0].parent, "--out", out, "--backend", BACKEND]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "build_engines.cli", "score", *map(str, options)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    cpu: dict[int, float] = {}
    while process.poll() is None:
        cpu |= cpu_of(process.pid)
        time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit("build-engines score failed.")
    return Took(len(paths), time.perf_counter() - began, sum(cpu.values()))


def cpu_of(session: int) -> dict[int, float]:
    """Seconds of processor by process of a session: Ray's workers are nobody's children."""
    found = {}
    for one in psutil.process_iter():
        try:
            if os.getsid(one.pid) == session:
                times = one.cpu_times()
                found[one.pid] = times.user + times.system
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def inspect(detector: Detector, paths: list[Path]) -> Took:
    """The bare loop."""
    began, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        detector.inspect(path.read_bytes())
    return Took(len(paths), time.perf_counter() - began, time.process_time() - cpu)


def _work(bundle: Path, paths: list[Path], barrier: Barrier, took: "multiprocessing.SimpleQueue[float]") -> None:
    cv2.setNumThreads(1)
    detector = Detector.open(bundles.load(bundle), BACKEND, threads=1)
    detector.check_golden()
    barrier.wait()
    took.put(inspect(detector, paths).cpu)


if __name__ == "__main__":
    main()
