"""A bundle that this GPU has no plan of: the service compiles it before it serves, or while another backend does.

The service and the compiler's process are real; the GPU is this machine's memory (tests.engines.host_gpu).
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server

URL = "/v1/inspections"
MEANWHILE = ("--serve-while-building", "openvino")


@contextmanager
def first_boot(bundle: Path, folder: Path, behaviour: str, *flags: str) -> Iterator[RunningServer]:
    program = (sys.executable, "-m", "tests.service.on_host_gpu", behaviour)
    with running_server(bundle, folder, *flags, program=program, wait=False) as server:
        yield server


def compilers(server: RunningServer) -> list[psutil.Process]:
    return [child for child in psutil.Process(server.process.pid).children() if "compile" in child.cmdline()]


def until_compiling(server: RunningServer) -> dict[str, object]:
    server.wait_for(lambda: "(compiling, 25%)" in server.client.get("/readyz").text)
    return server.client.get("/readyz").json()


def test_the_first_start_compiles_and_says_how_far_it_is(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    go = tmp_path / "go"
    with first_boot(bundle_folder, tmp_path, f"waits={go}") as server:
        until_compiling(server)
        time.sleep(1.1)
        response = server.client.get("/readyz")
        problem = response.json()
        assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
        assert (problem["type"], problem["status"]) == ("urn:unispect:problem:not-ready", 503)
        assert (problem["stage"], problem["fraction"]) == ("compiling the engine", 0.25)
        assert problem["elapsed_seconds"] > 1
        assert "compiled for this GPU, for " in problem["detail"]
        assert "(compiling, 25%)" in problem["detail"]
        assert server.client.get("/livez").status_code == 200
        refused = server.client.post(URL, content=picture, headers=RAW)
        assert (refused.status_code, refused.json()["type"]) == (503, problem["type"])
        assert "compiled for this GPU" in refused.json()["detail"]
        (compiler,) = compilers(server)
        assert compiler.nice() == min(19, psutil.Process(server.process.pid).nice() + 10)
        go.touch()
        server.wait_ready()
        answer = server.client.post(URL, content=picture, headers=RAW).json()
        assert answer["engine"]["backend"] == "tensorrt"
        assert server.stop() == 0
    assert "the compiler's own words" in server.log.read_text()
    assert len(list((tmp_path / "data" / "cache" / "plans").glob("*.plan"))) == 1

    with first_boot(bundle_folder, tmp_path, "spoils") as server:
        server.wait_ready()
        assert server.client.get("/v1/engine").json()["backend"] == "tensorrt"
        assert "compiler" not in server.log.read_text()


def test_another_backend_serves_meanwhile(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    go = tmp_path / "go"
    with first_boot(bundle_folder, tmp_path, f"waits={go}", *MEANWHILE) as server:
        server.wait_ready()
        health = until_compiling(server)
        assert (health["status"], health["stage"]) == ("ok", "ready")
        assert "openvino serves meanwhile: The engine is compiled" in health["reason"]
        scores, over = [], threading.Event()

        def keep_asking() -> None:
            while not over.is_set():
                answer = server.client.post(URL, content=picture, headers=RAW)
                scores.append((answer.status_code, answer.json()["engine"]["backend"], answer.json()["score"]))

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            server.wait_for(lambda: len(scores) > 3)
            go.touch()
            server.wait_for(lambda: scores[-1][1] == "tensorrt")
        finally:
            over.set()
            asking.join()
        assert {status for status, _, _ in scores} == {200}
        assert {backend for _, backend, _ in scores} == {"openvino", "tensorrt"}
        assert [score for _, _, score in scores] == pytest.approx([scores[0][2]] * len(scores), rel=0.02)
        assert server.client.get("/readyz").json()["reason"] is None
        metrics = server.client.get("/metrics").text
        assert 'backend="tensorrt"' in metrics
        assert "unispect_engine_failed 0.0" in metrics


def test_a_plan_that_disagrees_is_not_served(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    with first_boot(bundle_folder, tmp_path, "spoils") as server:
        server.wait_for(lambda: server.client.get("/readyz").json()["stage"] == "failed")
        assert "disagrees with the CPU on the golden image" in server.client.get("/readyz").json()["detail"]
        assert server.client.get("/livez").status_code == 200
        assert "unispect_engine_failed 1.0" in server.client.get("/metrics").text
        assert server.stop() == 0
    with first_boot(bundle_folder, tmp_path, "spoils", *MEANWHILE) as server:
        server.wait_ready()
        server.wait_for(lambda: "could not be compiled" in str(server.client.get("/readyz").json()["reason"]))
        assert "disagrees with the CPU" in server.client.get("/readyz").json()["reason"]
        assert "unispect_engine_failed 1.0" in server.client.get("/metrics").text
        answer = server.client.post(URL, content=picture, headers=RAW).json()
        assert answer["engine"]["backend"] == "openvino"


@pytest.mark.parametrize("flags", [(), MEANWHILE])
def test_a_service_that_stops_takes_the_compiler_along(
    bundle_folder: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    go = tmp_path / "go"
    with first_boot(bundle_folder, tmp_path, f"waits={go}", *flags) as server:
        until_compiling(server)
        (compiler,) = compilers(server)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        assert not compiler.is_running()
    assert "Traceback" not in server.log.read_text()
    assert not list((tmp_path / "data" / "cache" / "plans").glob("*.plan"))
    go.touch()
    with first_boot(bundle_folder, tmp_path, f"waits={go}") as server:
        server.wait_ready()


def test_a_compiler_whose_service_was_killed_ends(bundle_folder: Path, tmp_path: Path) -> None:
    with first_boot(bundle_folder, tmp_path, f"waits={tmp_path / 'never'}") as server:
        until_compiling(server)
        (compiler,) = compilers(server)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        assert compiler.wait(timeout=10) is None


def test_a_compiler_that_is_killed_is_said_to_be(bundle_folder: Path, tmp_path: Path) -> None:
    with first_boot(bundle_folder, tmp_path, f"waits={tmp_path / 'never'}") as server:
        until_compiling(server)
        (compiler,) = compilers(server)
        compiler.kill()
        server.wait_for(lambda: server.client.get("/readyz").json()["stage"] == "failed")
        assert "The compiler was killed (SIGKILL)" in server.client.get("/readyz").json()["detail"]
