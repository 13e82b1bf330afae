"""Batches, deadlines and shedding: what is accepted is answered in time, and the rest is refused before it costs."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import bundle as bundles
from engines.backends import Backend, RawResult
from service.admission import Admission
from service.errors import DeadlinePassed, QueueFull
from service.inspector import Inspector
from service.worker import EngineOptions
from tests.service.conftest import RAW
from tests.service.running import RunningServer

URL = "/v1/inspections"


class Slow(Backend):
    """The real backend, slower, which notes how many images it gets at once."""

    name = "slow"

    def __init__(self, backend: Backend, seconds: float) -> None:
        self._backend, self._seconds = backend, seconds
        self.batches: list[int] = []
        self.first = threading.Event()

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        self.batches.append(len(batch))
        self.first.set()
        time.sleep(self._seconds)
        return self._backend.run(batch)


@asynccontextmanager
async def inspecting(
    bundle_folder: Path, folder: Path, seconds: float = 0.0, **options: object
) -> AsyncIterator[tuple[Inspector, Slow]]:
    limits = {"max_queue": 100, "deadline_seconds": 60.0}
    engine = EngineOptions(
        "onnxruntime",
        threads=1,
        cache_dir=folder,
        max_pixels=50_000_000,
        **{k: v for k, v in options.items() if k not in limits},
    )
    inspector = Inspector(
        bundles.load(bundle_folder),
        engine,
        meanwhile=None,
        decode_workers=2,
        **limits | {k: v for k, v in options.items() if k in limits},
    )
    inspector.start()
    await inspector.lineup.serving.opened()
    detector = inspector.lineup.serving.engine.detector
    detector.backend = slow = Slow(detector.backend, seconds)
    yield inspector, slow
    await inspector.close()


def test_what_waits_while_the_engine_is_busy_goes_in_one_batch(
    bundle_folder: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    async def scenario() -> None:
        async with inspecting(bundle_folder, tmp_path, 0.3, max_batch=4) as (inspector, slow):
            alone = [(await inspector.submit(one, None)).inspection.score for one in pictures[:7]]
            assert slow.batches == [1] * 7
            slow.batches.clear()
            slow.first.clear()
            first = inspector.submit(pictures[0], None)
            await asyncio.to_thread(slow.first.wait)
            others = [inspector.submit(one, None) for one in pictures[1:7]]
            together = await asyncio.gather(first, *others)
            assert [one.inspection.score for one in together] == pytest.approx(alone, rel=1e-4)
            assert slow.batches == [1, 4, 2]

    asyncio.run(scenario())


def test_one_image_alone_does_not_wait_for_others(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    async def scenario() -> None:
        async with inspecting(bundle_folder, tmp_path, 0.2, max_batch=8, max_delay=30.0) as (inspector, _):
            await inspector.submit(picture, None)
            result = await inspector.submit(picture, None)
            assert result.timing.queue < 0.15

    asyncio.run(scenario())


def test_a_batch_waits_for_what_is_being_decoded(
    bundle_folder: Path, tmp_path: Path, picture: bytes, large_picture: bytes
) -> None:
    async def scenario() -> None:
        async with inspecting(bundle_folder, tmp_path, 1.0, max_batch=8, max_delay=5.0) as (inspector, slow):
            await inspector.submit(picture, None)
            await asyncio.gather(inspector.submit(picture, None), inspector.submit(large_picture, None))
            assert slow.batches == [1, 2]

    asyncio.run(scenario())


def test_one_broken_image_leaves_the_others_of_its_batch_alone(
    bundle_folder: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    async def scenario() -> None:
        async with inspecting(bundle_folder, tmp_path, 0.2, max_batch=4) as (inspector, slow):
            images = [pictures[0], pictures[1], b"no picture", pictures[2]]
            results = await asyncio.gather(*(inspector.submit(one, None) for one in images), return_exceptions=True)
            assert [isinstance(one, Exception) for one in results] == [False, False, True, False]
            assert inspector.admission.depth == 0
            assert inspector.lineup.serving.outstanding == 0
            assert sum(slow.batches) == 3

    asyncio.run(scenario())


def test_what_waited_too_long_is_not_inspected(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    async def scenario() -> None:
        async with inspecting(bundle_folder, tmp_path, 0.5, max_batch=1) as (inspector, slow):
            waiting = [inspector.submit(picture, None, deadline_seconds=0.4) for _ in range(4)]
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert sum(isinstance(one, DeadlinePassed) for one in results) == 3
            assert slow.batches == [1]
            assert inspector.admission.depth == 0

    asyncio.run(scenario())


def test_what_cannot_be_answered_in_time_is_refused_at_once(
    bundle_folder: Path, tmp_path: Path, picture: bytes
) -> None:
    async def scenario() -> None:
        async with inspecting(bundle_folder, tmp_path, 0.1, max_batch=1) as (inspector, _):
            await asyncio.gather(*(inspector.submit(picture, None) for _ in range(4)))
            accepted = [inspector.submit(picture, None) for _ in range(5)]
            began = time.perf_counter()
            with pytest.raises(QueueFull, match="would take") as refused:
                await inspector.submit(picture, None, deadline_seconds=0.4)
            assert time.perf_counter() - began < 0.05
            assert refused.value.wait_seconds > 0.4
            await asyncio.gather(*accepted)
            assert (await inspector.submit(picture, None, deadline_seconds=2)).inspection.score > 0

    asyncio.run(scenario())


def test_speed_is_learned_from_answers_and_not_from_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("service.admission.perf_counter", lambda: now[0])
    admission = Admission(max_queue=3, deadline_seconds=1.0)
    for _ in range(50):
        now[0] += 100.0
        admission.accepted()
        now[0] += 0.25
        admission.answered()
    assert admission.expected_wait == pytest.approx(0.25)
    admission.check(0.1)
    for _ in range(3):
        admission.accepted()
    with pytest.raises(QueueFull, match="3 inspections are waiting already; send the image again in a second"):
        admission.check(10.0)
    now[0] += 0.25
    admission.answered()
    with pytest.raises(QueueFull, match=r"would take 0.75 s and has 0.80 s"):
        admission.check(0.8)
    admission.check(1.0)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "soon", "9999999", "٣"])
def test_a_deadline_that_is_none_is_named(server: RunningServer, picture: bytes, text: str) -> None:
    headers = {**RAW, "X-Unispect-Deadline-Ms": text.encode()}
    response = server.client.post(URL, content=picture, headers=headers)
    assert response.status_code == 422
    assert "X-Unispect-Deadline-Ms" in response.json()["detail"]


def test_a_deadline_that_can_be_kept_changes_nothing(server: RunningServer, picture: bytes) -> None:
    response = server.client.post(URL, content=picture, headers={**RAW, "X-Unispect-Deadline-Ms": "60000"})
    assert response.status_code == 200
