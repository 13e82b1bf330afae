"""The Python client: typed answers, kept connections, and retries by which a part is inspected once."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry import trace

from engines.bundle import Manifest
from service.answers import InspectionAnswer
from service.client import AsyncClient, Client
from service.client_calls import Picture, Refused, Unreachable
from service.ids import new_id
from tests.service.conftest import RAW
from tests.service.faulty_proxy import BAD_GATEWAY, LOST, FaultyProxy, faulty_proxy
from tests.service.running import RunningServer, free_port, running_server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[FaultyProxy]:
    with faulty_proxy(server.url) as proxy:
        yield proxy


def inspections(server: RunningServer) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("unispect_verdicts_total{"))


def test_an_answer_is_typed_and_complete(
    client: Client, server: RunningServer, alien: bytes, manifest: Manifest
) -> None:
    part = manifest.part_classes[1].name
    answer = client.inspect(alien, part_class=part, part_id="Bögen 7", station="line 3", heatmap="map")
    assert isinstance(answer, InspectionAnswer)
    assert (answer.part_class, answer.part_id, answer.verdict) == (part, "Bögen 7", "fail")
    assert answer.heatmap is not None
    assert answer.regions[0].peak > answer.threshold
    assert client.engine().version == manifest.version
    assert client.is_ready()


def test_the_callers_trace_goes_along(client: Client, server: RunningServer, picture: bytes) -> None:
    caller = trace.SpanContext(int(new_id(), 16), 1, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(caller)):
        client.inspect(picture)
    server.wait_for(lambda: f'"trace_id": "{caller.trace_id:032x}"' in server.log.read_text())


def test_one_connection_serves_many_requests(proxy: FaultyProxy, picture: bytes) -> None:
    with Client(proxy.url) as client:
        for _ in range(5):
            client.inspect(picture)
    assert (proxy.carried, proxy.connections) == (5, 1)


@pytest.mark.parametrize("fault", [LOST, BAD_GATEWAY])
def test_a_lost_answer_is_asked_for_again_and_the_part_inspected_once(
    proxy: FaultyProxy, server: RunningServer, picture: bytes, fault: bytes
) -> None:
    before = inspections(server)
    proxy.faults += [fault, fault]
    part = new_id()
    with Client(proxy.url) as client:
        answer = client.inspect(picture, part_id=part)
        assert proxy.carried == 3
        assert client.inspect(picture, part_id=part).id == answer.id
    assert inspections(server) == before + 1


def test_without_a_part_id_a_lost_answer_is_not_asked_for_again(
    proxy: FaultyProxy, server: RunningServer, picture: bytes
) -> None:
    before = inspections(server)
    proxy.faults.append(LOST)
    with Client(proxy.url) as client, pytest.raises(Unreachable, match="part_id"):
        client.inspect(picture)
    assert inspections(server) == before + 1


def test_a_service_that_stays_away_is_given_up_after_the_attempts(picture: bytes) -> None:
    with Client(f"http://127.0.0.1:{free_port()}", attempts=3) as client:
        with pytest.raises(Unreachable, match="reachable"):
            client.inspect(picture)
        assert not client.is_ready()


def test_a_service_that_comes_is_waited_for(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    with running_server(bundle_folder, tmp_path, wait=False) as server, Client(server.url, attempts=100) as client:
        assert client.inspect(picture, part_id="first").part_id == "first"


def test_a_refusal_tells_the_problem(client: Client, picture: bytes) -> None:
    with pytest.raises(Refused) as refused:
        client.inspect(picture[:40])
    assert (refused.value.problem.status, refused.value.problem.type) == (422, "urn:unispect:problem:undecodable-image")


def test_what_is_not_the_service_is_told_apart(proxy: FaultyProxy, picture: bytes) -> None:
    proxy.faults.append(BAD_GATEWAY.replace(b"502 Bad Gateway", b"403 Forbidden"))
    with Client(proxy.url) as client, pytest.raises(Refused, match="403 Forbidden"):
        client.inspect(picture, part_id=new_id())


def test_a_deadline_is_sent_and_may_pass(client: Client, large_picture: bytes) -> None:
    with pytest.raises(Refused) as refused:
        client.inspect(large_picture, deadline_ms=1)
    assert refused.value.problem.type == "urn:unispect:problem:deadline-passed"
    assert client.inspect(large_picture, deadline_ms=60_000).verdict


def test_more_clients_than_the_queue_takes_all_get_their_results(
    bundle_folder: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    chosen = pictures[:5]
    with running_server(bundle_folder, tmp_path, "--max-queue", "1") as server:
        expected = [server.client.post("/v1/inspections", content=one, headers=RAW).json()["score"] for one in chosen]
        with Client(server.url, attempts=50) as client, ThreadPoolExecutor(5) as threads:
            scores = list(threads.map(lambda one: client.inspect(one).score, chosen))
        assert re.search(r'unispect_problems_total\{kind="queue-full"\} [1-9]', server.client.get("/metrics").text)
    assert scores == pytest.approx(expected, rel=1e-5)


def test_a_batch_tells_each_outcome_and_is_safe_to_repeat(
    proxy: FaultyProxy, server: RunningServer, pictures: list[bytes]
) -> None:
    before = inspections(server)
    proxy.faults.append(LOST)
    batch = [Picture(data, part_id=new_id()) for data in pictures[:3]] + [Picture(b"no image", part_id="x")]
    with Client(proxy.url) as client:
        answer = client.inspect_batch(batch)
    assert answer.refused == 1
    assert [result.repeated for result in answer.results] == [True, True, True, False]
    assert answer.results[3].problem is not None
    assert inspections(server) == before + 3


def test_the_async_client_answers_as_the_blocking_one(
    client: Client, proxy: FaultyProxy, server: RunningServer, pictures: list[bytes]
) -> None:
    expected = [client.inspect(data).score for data in pictures[:8]]
    before = inspections(server)

    async def inspect_all() -> list[float]:
        async with AsyncClient(proxy.url) as client:
            assert await client.is_ready()
            proxy.faults += [LOST, BAD_GATEWAY]
            answers = [client.inspect(data, part_id=new_id()) for data in pictures[:8]]
            return [answer.score for answer in await asyncio.gather(*answers)]

    assert asyncio.run(inspect_all()) == pytest.approx(expected, rel=1e-5)
    assert not proxy.faults
    assert inspections(server) == before + 8
