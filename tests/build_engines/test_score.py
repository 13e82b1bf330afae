"""`build-engines score` as its user meets it, on a real Ray: a cluster that is there, and one of its own."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from engines import bundle as bundles
from engines.detector import Detector
from tests.build_engines.deadly import DEADLY, MortalChunkScorer
from tests.build_engines.test_cli import call
from tests.build_engines.test_reinspection_worker import with_threshold

ROOT = Path(__file__).parents[2]
BROKEN = "broken.png"


@pytest.fixture(scope="module")
def archive(parts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images of two part classes, and one that is none."""
    folder = tmp_path_factory.mktemp("archive")
    for path in parts_folder.glob("*/test/*/*.png"):
        target = folder / path.relative_to(parts_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (folder / BROKEN).write_bytes(b"dear")
    return folder


@pytest.fixture(scope="module", autouse=True)
def token() -> Iterator[None]:
    """Of the cluster, for it and for its users. Ray reads it once a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture(scope="module")
def cluster(token: None) -> Iterator[str]:
    """The address of a Ray cluster of one node with two cores."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)),
        *("--num-cpus", "2", "--include-dashboard", "false", "--disable-usage-stats"),
    ]
    head = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for_port(port)
        yield f"127.0.0.1:{port}"
    finally:
        # Asked to end, it would wait for half a minute for what Ray Data leaves running. Workers have their own groups.
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == head.pid:
                    process.kill()
        head.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("Ray did not start")


def test_an_archive_is_scored_on_a_cluster(
    bundle_folder: Path, archive: Path, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.parquet"
    options = ("--engine", bundle_folder, "--input", archive, "--out", out, "--ray", cluster)
    code, printed, error = call(capsys, "score", *options)
    assert (code, error) == (0, "")
    rows = pq.read_table(out).to_pylist()
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert len(rows) == len(list(archive.rglob("*.png")))
    detector = Detector.open(bundles.load(bundle_folder), "openvino", 1)
    by_path = {row["path"]: row for row in rows}
    assert "not a picture" in by_path.pop(BROKEN)["error"]
    for path, row in list(by_path.items())[::5]:
        found = detector.inspect((archive / path).read_bytes())
        assert (row["score"], row["verdict"], row["error"]) == (found.score, found.verdict, None)
    assert "1 images could not be scored" in printed
    assert all(part.name in printed for part in detector.bundle.manifest.part_classes)
    # A second call finds it done: no worker starts, and the same is said.
    began, changed = time.monotonic(), out.stat().st_mtime_ns
    assert call(capsys, "score", *options[:-2])[:2] == (0, printed.split("\n", 1)[1])
    assert (out.stat().st_mtime_ns, time.monotonic() - began < 5) == (changed, True)


def test_an_engine_is_compared_with_another_one(
    bundle_folder: Path, archive: Path, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict, out = with_threshold(bundle_folder, tmp_path / "strict", 0.1), tmp_path / "scores.parquet"
    code, printed, error = call(
        *(capsys, "score", "--engine", strict, "--against", bundle_folder, "--input", archive, "--out", out),
        *("--ray", cluster, "--workers", 1),
    )
    assert (code, error) == (0, "")
    rows = [row for row in pq.read_table(out).to_pylist() if row["path"] != BROKEN]
    expected = {row["path"] for row in rows if row["verdict"] != row["against_verdict"]}
    assert len(expected) > 5
    changed = pq.read_table(tmp_path / "scores.changed.parquet").to_pylist()
    assert {row["path"] for row in changed} == expected
    assert all((row["verdict"], row["against_verdict"]) == ("fail", "pass") for row in changed)
    assert all(row["error"] is None for row in changed)
    assert f"The verdict of {len(expected)} of {len(rows)} images changed" in printed
    page = (tmp_path / "scores.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == min(24, len(expected))
    assert "pass → fail" in page


def test_an_interrupted_scoring_goes_on(
    bundle_folder: Path, archive: Path, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The images are many enough that the interrupt comes before the last; what was done is not done again."""
    folder, out = tmp_path / "many", tmp_path / "scores.parquet"
    folder.mkdir()
    source = next(archive.glob("*/test/good/*.png"))
    for number in range(3000):
        os.link(source, folder / f"{number:05}.png")
    options = ["--engine", bundle_folder, "--input", folder, "--out", out, "--ray", cluster]
    parts = tmp_path / "scores.parquet.parts"
    command = [sys.executable, "-m", "build_engines.cli", "score", *map(str, options)]
    with subprocess.Popen(
        [sys.executable, "-c", _WITH_SIGINT, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 300
        while not any(parts.glob("part-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.strip().splitlines() == ["Interrupted; call the same command again to go on (train: with --resume)."]
    assert not out.exists()
    done = sorted(pq.read_table(path)["path"][0].as_py() for path in parts.glob("part-*"))
    assert 0 < len(done) < 24
    # Nothing is inspected anew: an image that is gone by now has its findings.
    (folder / done[0]).unlink()
    assert call(capsys, "score", *options)[0] == 0
    rows = pq.read_table(out).to_pylist()
    assert (len(rows), {row["error"] for row in rows}) == (3000, {None})
    assert not parts.exists()


_WITH_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
def test_an_image_that_kills_its_worker_costs_no_other(
    bundle_folder: Path,
    archive: Path,
    cluster: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, out = tmp_path / "archive", tmp_path / "scores.parquet"
    folder.mkdir()
    source = next(archive.glob("*/test/good/*.png"))
    for name in ("a.png", DEADLY, "e.png"):
        os.link(source, folder / name)
    monkeypatch.setattr("build_engines.reinspection.scoring.ChunkScorer", MortalChunkScorer)
    monkeypatch.setattr("build_engines.reinspection.parts._FEWEST_PARTS", 1)
    code, _, error = call(
        capsys, "score", "--engine", bundle_folder, "--input", folder, "--out", out, "--ray", cluster, "--workers", 1
    )
    assert (code, error) == (0, "")
    rows = {row["path"]: row["error"] for row in pq.read_table(out).to_pylist()}
    assert rows == {"a.png": None, DEADLY: "The process that read it died, twice.", "e.png": None}


def test_this_machine_alone_will_do(
    bundle_folder: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = archive / "some.csv", tmp_path / "scores.parquet"
    images = sorted(archive.glob("*/test/good/*.png"))[:3]
    manifest.write_text("path,part_class\n" + "".join(f"{path},{path.parts[-4]}\n" for path in images))
    code, _, error = call(capsys, "score", "--engine", bundle_folder, "--input", manifest, "--out", out)
    assert (code, error) == (0, "")
    rows = pq.read_table(out).to_pylist()
    assert [row["part_class"] for row in rows] == [path.parts[-4] for path in images]
    assert {row["part_class_source"] for row in rows} == {"given"}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code, _, error = call(capsys, "score", *arguments)
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    return error


def test_a_cluster_that_does_not_answer_is_said_soon(
    bundle_folder: Path,
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("build_engines.reinspection.cluster._SECONDS_TO_ANSWER", 3)
    options = ("--engine", bundle_folder, "--input", archive, "--out", tmp_path / "scores.parquet", "--ray")
    began = time.monotonic()
    assert "No Ray cluster answers at 127.0.0.1:" in refused(capsys, *options, f"127.0.0.1:{free_port()}")
    assert "is no address" in refused(capsys, *options, "ray://127.0.0.1:10001")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        assert "within 3 s" in refused(capsys, *options, f"127.0.0.1:{mute.getsockname()[1]}")
    assert time.monotonic() - began < 30


def test_wrong_options(bundle_folder: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores.parquet"
    (tmp_path / "empty").mkdir()
    engine, images = ("--engine", bundle_folder), ("--input", archive)
    assert "must end with .parquet" in refused(capsys, *engine, *images, "--out", tmp_path / "scores.csv")
    assert "holds no images" in refused(capsys, *engine, "--input", tmp_path / "empty", "--out", out)
    assert "There is no archive" in refused(capsys, *engine, "--input", tmp_path / "nothing", "--out", out)
    assert "There is no bundle" in refused(capsys, "--engine", archive, *images, "--out", out)
    assert "is the same engine" in refused(capsys, *engine, *images, "--out", out, "--against", bundle_folder)
    assert "--backend 'tpu'" in refused(capsys, *engine, *images, "--out", out, "--backend", "tpu")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    out.write_text("dear")
    assert "no output of score" in refused(capsys, *engine, *images, "--out", out)
