"""Files made to hurt: refused fast, at no cost in memory, and the next good request succeeds."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.hostile import hostile_files
from tests.service.conftest import RAW
from tests.service.running import RunningServer

URL = "/v1/inspections"
MEMORY_MARGIN = 64 * 2**20


def test_hostile_files_are_refused_fast_and_leave_no_trace(server: RunningServer, picture: bytes) -> None:
    for heatmap in ("none", "overlay", "map"):
        server.client.post(URL, params={"heatmap": heatmap}, content=picture, headers=RAW)
    peak = server.memory("VmHWM")
    wrong = []
    for name, data in hostile_files().items():
        start = time.perf_counter()
        response = server.client.post(URL, content=data, headers=RAW)
        seconds = time.perf_counter() - start
        is_problem = response.headers["content-type"] == "application/problem+json"
        if not (400 <= response.status_code < 500 and is_problem and seconds < 1.0):
            wrong.append(f"{name}: {response.status_code} after {seconds:.2f} s")
        assert server.client.post(URL, content=picture, headers=RAW).status_code == 200, name
    assert not wrong
    assert server.memory("VmHWM") - peak < MEMORY_MARGIN


@pytest.mark.slow
def test_a_hundred_bombs_at_once_are_refused_while_good_images_are_inspected(
    server: RunningServer, picture: bytes
) -> None:
    bombs = [data for name, data in hostile_files().items() if "bomb" in name or "3000" in name or "60000" in name]
    assert len(bombs) >= 5
    server.client.post(URL, content=b"x" * max(map(len, bombs)), headers=RAW)
    peak = server.memory("VmHWM")

    def post(data: bytes) -> int:
        return httpx.post(f"{server.url}{URL}", content=data, headers=RAW, timeout=120).status_code

    with ThreadPoolExecutor(100) as threads:
        refused = [threads.submit(post, bombs[number % len(bombs)]) for number in range(500)]
        good = []
        while not all(one.done() for one in refused):
            good.append(server.client.post(URL, content=picture, headers=RAW).status_code)
    statuses = {one.result() for one in refused}
    assert statuses <= {413, 415, 422, 503, 504}, statuses
    assert statuses & {413, 422}
    assert 200 in good
    assert set(good) <= {200, 503, 504}
    assert server.memory("VmHWM") - peak < 100 * max(map(len, bombs)) + MEMORY_MARGIN
    assert server.client.post(URL, content=picture, headers=RAW).status_code == 200
