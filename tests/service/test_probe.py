"""The container's health check, asked of the real server, and of an engine that broke."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from service import probe
from service.app import create_app
from service.health import Health, Stage
from service.settings import Settings
from tests.deploy.dockerfile import ROOT, stages
from tests.service.running import RunningServer, free_port


def port_of(server: RunningServer) -> str:
    return str(server.client.base_url.port)


def test_a_ready_service_passes(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["--port", port_of(server)]) == 0
    assert '"stage":"ready"' in capsys.readouterr().out


def test_the_images_health_check_passes_on_a_ready_service(server: RunningServer) -> None:
    _, *words = stages()[-1].executed("HEALTHCHECK")
    assert words[-2:] == ["--end", "1"]
    command = [sys.executable, *words[:-2], "--port", port_of(server)]
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == 0


def test_the_port_is_the_services_own_setting(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISPECT_PORT", port_of(server))
    assert probe.main([]) == 0


def test_where_nothing_answers_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert probe.main(["--port", str(port), "--end", "1"]) == 1
    assert f"port {port}" in capsys.readouterr().out


def test_a_service_that_needs_no_restart_is_not_ended(bundle_folder: Path, tmp_path: Path) -> None:
    with serving(bundle_folder, tmp_path, Health(Stage.OPENING)) as port, victim() as process:
        assert probe.main(["--port", str(port), "--end", str(process.pid)]) == 1
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)


def test_a_broken_engine_is_ended(bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(bundle_folder, tmp_path, Health(Stage.BROKEN, "The device is lost.")) as port, victim() as process:
        assert probe.main(["--port", str(port)]) == 1
        assert process.poll() is None
        assert probe.main(["--port", str(port), "--end", str(process.pid)]) == 1
        assert process.wait(10) != 0
    assert "The device is lost." in capsys.readouterr().out


@contextmanager
def serving(bundle: Path, folder: Path, health: Health) -> Iterator[int]:
    """The application behind a real port, in a stage that it cannot be put into from outside."""
    app = create_app(Settings(bundle=bundle, data_dir=folder / "data"))
    app.state.context.inspector.lineup.serving.health = health
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_config=None))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
