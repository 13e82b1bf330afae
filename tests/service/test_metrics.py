"""What /metrics tells, and that no client can make it grow."""

import socket
from urllib.parse import urlsplit

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from engines.bundle import Manifest
from service.metrics import STAGE_BUCKETS
from service.timing import STAGES
from tests.service.conftest import RAW
from tests.service.running import RunningServer

URL = "/v1/inspections"


def scrape(server: RunningServer) -> dict[str, Metric]:
    response = server.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    samples = [sample for family in families.values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_an_inspection_is_counted_once_everywhere(server: RunningServer, alien: bytes, manifest: Manifest) -> None:
    part = manifest.part_classes[0].name
    before = scrape(server)
    assert server.client.post(URL, params={"part_class": part}, content=alien, headers=RAW).status_code == 200
    after = scrape(server)

    def growth(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert growth("unispect_requests_total", route=URL, outcome="ok") == 1
    assert growth("unispect_verdicts_total") == 1
    assert growth("unispect_verdicts_total", part_class=part, verdict="fail") == 1
    assert growth("unispect_score_ratio_count", part_class=part) == 1
    assert growth("unispect_score_ratio_bucket", part_class=part, le="1.0") == 0
    assert growth("unispect_unknown_parts_total") == 1
    for stage in STAGES:
        assert growth("unispect_stage_seconds_count", stage=stage) == 1
    assert value(after, "unispect_queue_depth") == 0
    assert value(after, "unispect_ready") == 1


def test_the_stages_have_the_agreed_buckets(server: RunningServer) -> None:
    samples = scrape(server)["unispect_stage_seconds"].samples
    bounds = {sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")}
    assert bounds == {str(bound) for bound in STAGE_BUCKETS} | {"+Inf"}
    assert len(STAGE_BUCKETS) == 19


def test_the_engine_and_the_process_are_described(server: RunningServer, manifest: Manifest) -> None:
    families = scrape(server)
    assert families["unispect_engine_info"].samples[0].labels == {
        "name": manifest.name,
        "version": manifest.version,
        "method": manifest.method,
        "precision": manifest.precision,
        "backend": "openvino",
    }
    assert value(families, "process_resident_memory_bytes") > 0


def test_no_label_comes_from_a_client(server: RunningServer, picture: bytes, manifest: Manifest) -> None:
    for index in range(5):
        server.client.get(f"/made/up/{index}")
        server.client.get(f"/web/made-up-{index}")
        server.client.request(f"VERB{index}", URL)
        server.client.post(URL, params={"part_class": f"made-up-{index}"}, content=picture, headers=RAW)
        server.client.post(URL, params={f"made-up-{index}": "x"}, content=picture, headers=RAW)
    labels = [sample.labels for family in scrape(server).values() for sample in family.samples]
    routes = {label["route"] for label in labels if "route" in label}
    documented = set(server.client.get("/openapi.json").json()["paths"])
    assert routes <= documented | {"/", "/docs", "/openapi.json", "files", "unmatched"}
    assert {label["part_class"] for label in labels if "part_class" in label} == {
        part.name for part in manifest.part_classes
    }
    assert not [label for label in labels if "made" in str(label) or "VERB" in str(label)]


def test_a_client_that_leaves_while_sending_costs_nothing(server: RunningServer) -> None:
    before = value(scrape(server), "unispect_requests_total", route=URL, outcome="client-gone")
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nhalf"
        connection.sendall(head.encode())
    server.wait_for(
        lambda: value(scrape(server), "unispect_requests_total", route=URL, outcome="client-gone") == before + 1
    )
    assert value(scrape(server), "unispect_queue_depth") == 0
    assert "ClientDisconnect" not in server.log.read_text()
