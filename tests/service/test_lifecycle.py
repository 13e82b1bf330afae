"""From start to stop: readiness, a start that fails, draining, and an engine that breaks."""

import asyncio
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from engines import bundle as bundles
from engines.backends import Backend, RawResult
from engines.errors import BackendError
from service.app import create_app
from service.health import Stage
from service.inspector import Inspector
from service.settings import Settings
from service.worker import EngineOptions
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server

URL = "/v1/inspections"


def test_the_service_listens_before_it_is_ready(bundle_folder: Path, tmp_path: Path) -> None:
    seen = []
    with running_server(bundle_folder, tmp_path, wait=False) as server:

        def ready() -> bool:
            response = server.client.get("/readyz")
            seen.append((response.status_code, response.json()["stage"]))
            assert server.client.get("/livez").status_code == 200
            return response.status_code == 200

        server.wait_for(ready)
    assert seen[-1] == (200, "ready")
    assert {status for status, _ in seen[:-1]} <= {503}
    assert {stage for _, stage in seen[:-1]} <= {"starting", "opening the engine", "warming up"}


def test_before_the_engine_is_open_images_are_sent_away(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    async def scenario() -> None:
        app = create_app(Settings(bundle=bundle_folder, data_dir=tmp_path))
        async with client_of(app) as client:
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["stage"]) == (503, "starting")
            assert (await client.get("/healthz")).status_code == 503
            assert (await client.get("/livez")).status_code == 200
            refused = await client.post(URL, content=picture, headers=RAW)
            assert refused.status_code == 503
            assert refused.json()["type"] == "urn:unispect:problem:not-ready"
            assert int(refused.headers["retry-after"]) > 0
            assert (await client.get("/v1/engine")).json()["backend"] is None

    asyncio.run(scenario())


def test_an_engine_that_scores_otherwise_than_when_built_is_not_served(bundle_folder: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(bundle_folder, altered)
    manifest = bundles.load(altered).manifest
    golden = manifest.golden.model_copy(update={"score": manifest.golden.score * 2 + 1})
    bundles.save_manifest(altered, manifest.model_copy(update={"golden": golden}))
    assert_never_ready(altered, tmp_path, "golden image")


def test_a_network_that_cannot_be_opened_is_not_served(bundle_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    (broken / bundles.MODEL).write_bytes(b"no network")
    bundles.save_manifest(broken, bundles.load(bundle_folder).manifest)
    assert_never_ready(broken, tmp_path, "OpenVINO")


def assert_never_ready(bundle: Path, folder: Path, reason: str) -> None:
    with running_server(bundle, folder / "server", wait=False) as server:
        server.wait_for(lambda: server.client.get("/readyz").json()["stage"] == "failed")
        response = server.client.get("/readyz")
        assert response.status_code == 503
        assert reason in response.json()["detail"]
        assert reason in server.client.post(URL, content=b"x", headers=RAW).json()["detail"]
        assert server.client.get("/livez").status_code == 200
        assert server.stop() == 0


def test_sigterm_loses_no_request_and_exits_with_0(bundle_folder: Path, tmp_path: Path, large_picture: bytes) -> None:
    requests = 8

    with running_server(bundle_folder, tmp_path, "--decode-workers", "1") as server, ThreadPoolExecutor(16) as threads:
        futures = [threads.submit(post_slowly, server, large_picture) for _ in range(requests)]
        server.wait_for(lambda: f"unispect_queue_depth {requests}.0" in server.client.get("/metrics").text)
        server.terminate()
        statuses = [future.result().status_code for future in futures]
        exit_code = server.process.wait(timeout=30)
    assert statuses == [200] * requests
    assert exit_code == 0


def post_slowly(server: RunningServer, data: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}{URL}?heatmap=overlay", content=data, headers=RAW, timeout=60)


def test_a_wait_longer_than_the_drain_time_is_cut(bundle_folder: Path, tmp_path: Path, large_picture: bytes) -> None:
    flags = ["--decode-workers", "1", "--drain-seconds", "0"]
    with running_server(bundle_folder, tmp_path, *flags) as server, ThreadPoolExecutor(40) as threads:
        for _ in range(40):
            threads.submit(post_slowly, server, large_picture)
        server.wait_for(lambda: bool(re.search(r"unispect_queue_depth [123]\d", server.client.get("/metrics").text)))
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 5


def test_draining_is_not_ready_and_still_serves(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    async def scenario() -> None:
        async with running_inspector(bundle_folder, tmp_path) as inspector:
            inspector.drain()
            assert inspector.health.stage is Stage.DRAINING
            assert not inspector.health.ready
            assert inspector.health.live
            assert (await inspector.submit(picture, None)).inspection.score > 0
            assert inspector.admission.depth == 0

    asyncio.run(scenario())


class BreakingBackend(Backend):
    """A device that is lost, which no real one can be asked for."""

    name = "breaking"

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        raise BackendError("The device is lost; restart the service.")


def test_a_broken_engine_is_no_longer_live(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    async def scenario() -> None:
        app = create_app(Settings(bundle=bundle_folder, data_dir=tmp_path))
        inspector = app.state.context.inspector
        async with app.router.lifespan_context(app), client_of(app) as client:
            await until_ready(inspector)
            inspector.lineup.serving.engine.detector.backend = BreakingBackend()
            failed = await client.post(URL, content=picture, headers=RAW)
            assert failed.status_code == 503
            assert failed.json()["type"] == "urn:unispect:problem:engine-failed"
            for path in ("/livez", "/readyz"):
                response = await client.get(path)
                assert response.status_code == 503
                assert response.json()["detail"] == "The device is lost; restart the service."
            refused = await client.post(URL, content=picture, headers=RAW)
            assert refused.json()["type"] == "urn:unispect:problem:not-ready"
            assert inspector.admission.depth == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("breaks", [False, True])
def test_a_backend_is_closed_where_it_was_opened_unless_it_broke(
    breaks: bool, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_by: list[str] = []
    monkeypatch.setattr(Backend, "close", lambda _: closed_by.append(threading.current_thread().name))

    async def scenario() -> None:
        async with running_inspector(bundle_folder, tmp_path) as inspector:
            if breaks:
                inspector.lineup.serving.engine.detector.backend = BreakingBackend()
                with pytest.raises(BackendError):
                    await inspector.submit(inspector.bundle.golden_path.read_bytes(), None)
            assert not closed_by

    asyncio.run(scenario())
    assert closed_by == ([] if breaks else ["inference"])


def test_an_unforeseen_error_tells_the_log_and_not_the_client(
    bundle_folder: Path, tmp_path: Path, picture: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        app = create_app(Settings(bundle=bundle_folder, data_dir=tmp_path))
        async with app.router.lifespan_context(app), client_of(app) as client:
            await until_ready(app.state.context.inspector)
            detector = app.state.context.inspector.lineup.serving.engine.detector
            backend, detector.backend = detector.backend, None
            response = await client.post(URL, content=picture, headers=RAW)
            detector.backend = backend
            assert response.status_code == 500
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["instance"] == response.headers["x-request-id"]
            assert "NoneType" not in response.text
            assert (await client.get("/livez")).status_code == 200

    asyncio.run(scenario())
    assert "NoneType" in caplog.text


@asynccontextmanager
async def running_inspector(bundle_folder: Path, folder: Path) -> AsyncIterator[Inspector]:
    inspector = Inspector(
        bundles.load(bundle_folder),
        EngineOptions("auto", threads=1, cache_dir=folder, max_pixels=50_000_000),
        meanwhile=None,
        decode_workers=2,
        max_queue=8,
        deadline_seconds=10,
    )
    inspector.start()
    await until_ready(inspector)
    yield inspector
    await inspector.close()


async def until_ready(inspector: Inspector) -> None:
    async with asyncio.timeout(60):
        while not inspector.health.ready:
            assert inspector.health.stage is not Stage.FAILED, inspector.health.reason
            await asyncio.sleep(0.01)


def client_of(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")
