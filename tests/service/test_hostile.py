"""Files made to hurt: refused fast, at no cost in memory, and the next good request succeeds."""

import time

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
