"""W3C Trace Context in and out, and spans at a real OTLP endpoint."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.service.conftest import RAW
from tests.service.running import RunningServer, free_port, running_server

URL = "/v1/inspections"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@dataclass
class Collector:
    url: str
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in body.resource_spans:
                names = {item.key: item.value.string_value for item in resource.resource.attributes}
                collected.services.add(names["service.name"])
                for scope in resource.scope_spans:
                    collected.spans += scope.spans
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collected = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield collected
        server.shutdown()
        thread.join()


def post(server: RunningServer, picture: bytes, traceparent: str | None) -> httpx.Response:
    headers = RAW if traceparent is None else RAW | {"traceparent": traceparent}
    return server.client.post(URL, content=picture, headers=headers)


def attributes(span: Span) -> dict[str, object]:
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes}


def test_the_clients_trace_is_in_answer_and_log(server: RunningServer, picture: bytes) -> None:
    response = post(server, picture, f"00-{TRACE}-{PARENT}-01")
    match = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", response.headers["traceparent"])
    assert match is not None
    assert match[1] not in (PARENT, "0" * 16)
    request = response.headers["x-request-id"]

    def logged() -> bool:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        mine = [line for line in lines if line.get("request_id") == request]
        return bool(mine) and (mine[0]["trace_id"], mine[0]["span_id"]) == (TRACE, match[1])

    server.wait_for(logged)


@pytest.mark.parametrize(
    "traceparent",
    [None, "", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01"],
)
def test_without_a_valid_trace_there_is_none(server: RunningServer, picture: bytes, traceparent: str | None) -> None:
    response = post(server, picture, traceparent)
    assert response.status_code == 200
    assert "traceparent" not in response.headers


def test_a_refusal_carries_the_trace_as_well(server: RunningServer) -> None:
    response = post(server, b"no image", f"00-{TRACE}-{PARENT}-00")
    assert response.status_code == 415
    assert response.headers["traceparent"].startswith(f"00-{TRACE}-")


def test_a_collector_gets_the_spans_of_request_and_inspection(
    bundle_folder: Path, tmp_path: Path, picture: bytes
) -> None:
    with (
        collector() as collected,
        running_server(bundle_folder, tmp_path, "--otlp-endpoint", collected.url) as server,
    ):
        began = time.time_ns()
        traced = post(server, picture, f"00-{TRACE}-{PARENT}-01")
        rooted = post(server, picture, None)
        refused = post(server, b"no image", None)
        ended = time.time_ns()
        answer = traced.json()
        assert server.stop() == 0
    assert collected.services == {"unispect"}
    assert {span.name for span in collected.spans} == {f"POST {URL}", "inspect", "commit"}
    requests = {(span.trace_id.hex(), span.span_id.hex()): span for span in collected.named(f"POST {URL}")}
    named = [tuple(one.headers["traceparent"].split("-")[1:3]) for one in (traced, rooted, refused)]
    assert set(requests) == set(named)
    request = requests[named[0]]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(request)["http.response.status_code"] == 200
    inspected = next(
        span for span in collected.named("inspect") if attributes(span)["unispect.inspection"] == answer["id"]
    )
    assert inspected.parent_span_id == request.span_id
    assert attributes(inspected)["unispect.verdict"] == answer["verdict"]
    assert attributes(inspected)["unispect.score"] == answer["score"]
    seconds = (inspected.end_time_unix_nano - inspected.start_time_unix_nano) / 1e9
    assert seconds == pytest.approx(answer["timing_ms"]["total"] / 1e3, abs=1e-5)
    assert began < inspected.start_time_unix_nano < inspected.end_time_unix_nano < ended
    assert len(collected.named("commit")) == 2
    assert {span.parent_span_id for span in collected.named("commit")} < {span.span_id for span in requests.values()}


def test_a_collector_that_is_away_costs_no_request_and_little_of_the_end(
    bundle_folder: Path, tmp_path: Path, picture: bytes
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with running_server(bundle_folder, tmp_path, "--otlp-endpoint", address) as server:
        assert post(server, picture, None).status_code == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10


def test_spans_are_sent_to_an_address_only(bundle_folder: Path, tmp_path: Path) -> None:
    with running_server(bundle_folder, tmp_path, "--otlp-endpoint", "collector", wait=False) as server:
        assert server.process.wait(timeout=60) == 2
        assert "otlp_endpoint is 'collector'" in server.log.read_text()
