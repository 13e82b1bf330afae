"""What /metrics tells, and that no client can make it grow."""

import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.observing import CLASSES, MOST_SERIES, widen
from engines.bundle import Manifest
from service.disk_usage import DiskUsage
from service.metrics import INSPECTION_BUCKETS, OUTCOMES
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server
from tests.service.test_telemetry import write_sysfs

STAGES = ("decode", "queue", "inference", "postprocess")
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

    assert growth("unispect_requests_total", api="inspection") == 1
    assert growth("unispect_requests_total", api="inspection", outcome="ok") == 1
    assert growth("unispect_problems_total") == 0
    assert growth("unispect_verdicts_total") == 1
    assert growth("unispect_verdicts_total", part_class=part, verdict="fail") == 1
    assert growth("unispect_score_ratio_count") == 1
    assert growth("unispect_score_ratio_bucket", le="1.0") == 0
    assert growth("unispect_unknown_parts_total") == 1
    assert growth("unispect_inspection_seconds_count") == 1
    for stage in STAGES:
        assert growth("unispect_stage_seconds_count", stage=stage) == 1
    stages = sum(growth("unispect_stage_seconds_sum", stage=stage) for stage in STAGES)
    assert 0 < stages <= growth("unispect_inspection_seconds_sum")
    assert value(after, "unispect_queue_depth") == 0
    assert value(after, "unispect_queue_limit") == 64
    assert value(after, "unispect_ready") == 1
    assert value(after, "unispect_engine_failed") == 0
    assert 0 < value(after, "unispect_disk_free_bytes") <= value(after, "unispect_disk_size_bytes")


@pytest.mark.parametrize(
    ("path", "content", "outcome", "kind"),
    [
        (URL, b"no picture", "refused", "unsupported-image"),
        (f"{URL}:batch", b"no form", "refused", "wrong-content-type"),
    ],
)
def test_a_refused_request_is_counted_by_its_kind(
    server: RunningServer, path: str, content: bytes, outcome: str, kind: str
) -> None:
    before = scrape(server)
    answer = server.client.post(path, content=content, headers=RAW)
    assert answer.json()["type"] == f"urn:unispect:problem:{kind}"
    after = scrape(server)
    for name, labels in (
        ("unispect_requests_total", {"api": "inspection", "outcome": outcome}),
        ("unispect_problems_total", {"kind": kind}),
    ):
        assert value(after, name, **labels) == value(before, name, **labels) + 1


def test_what_comes_at_the_wrong_time_is_shed_and_no_failure(
    bundle_folder: Path, tmp_path: Path, large_picture: bytes
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        late = {**RAW, "X-Unispect-Deadline-Ms": "1"}
        assert server.client.post(URL, content=large_picture, headers=late).status_code == 504
        families = scrape(server)
        assert value(families, "unispect_requests_total", api="inspection", outcome="shed") == 1
        assert value(families, "unispect_requests_total", api="inspection") == 1


def test_probes_and_scrapes_are_not_counted(server: RunningServer) -> None:
    before = value(scrape(server), "unispect_requests_total")
    for path in ("/livez", "/readyz", "/healthz", "/metrics", "/v2/health/live", "/v2/health/ready"):
        server.client.get(path)
    assert value(scrape(server), "unispect_requests_total") == before


def test_fifteen_part_classes_on_a_jetson_are_under_200_series(
    bundle_folder: Path, tmp_path: Path, picture: bytes
) -> None:
    sysfs = tmp_path / "sys"
    write_sysfs(sysfs)
    bundle = widen(bundle_folder, tmp_path / "wide", CLASSES)
    with running_server(bundle, tmp_path, "--sysfs-root", str(sysfs)) as server:
        for query in ({}, {"part_class": "unknown"}, {"wrong": "x"}):
            server.client.post(URL, params=query, content=picture, headers=RAW)
        server.client.post(URL, content=b"no picture", headers=RAW)
        server.client.post(f"{URL}:batch", files=[("file", picture), ("file", b"no picture")])
        for path in ("/", "/docs", "/nothing", "/web/style.css", "/v1/engine", "/v1/engines", "/v1/inspections", "/v2"):
            server.client.get(path)
        server.wait_for(lambda: "unispect_power_watts" in server.client.get("/metrics").text)
        families = scrape(server)
    classes = {sample.labels["part_class"] for sample in families["unispect_verdicts"].samples}
    assert len(classes) == CLASSES
    assert sum(len(family.samples) for family in families.values()) < MOST_SERIES


def test_the_series_of_classes_that_are_no_longer_served_go(
    bundle_folder: Path, tmp_path: Path, manifest: Manifest
) -> None:
    wide = widen(bundle_folder, tmp_path / "wide", CLASSES)
    archive = shutil.make_archive(str(tmp_path / "wide"), "zip", tmp_path, "wide")
    with running_server(bundle_folder, tmp_path) as server:
        added = server.client.post("/v1/engines", content=Path(archive).read_bytes(), headers=RAW)
        assert added.is_success, added.text
        new = f"/v1/engines/{manifest.name}/versions/{wide.name}/activate"
        assert server.client.post(new, timeout=60).is_success
        assert len(scrape(server)["unispect_verdicts"].samples) == CLASSES * 3
        assert server.client.post("/v1/engines/rollback", timeout=60).is_success
        left = {sample.labels["part_class"] for sample in scrape(server)["unispect_verdicts"].samples}
    assert left == {part.name for part in manifest.part_classes}


def test_a_disk_that_is_not_there_has_no_figures(tmp_path: Path) -> None:
    assert [family.name for family in DiskUsage(tmp_path).collect()] == [
        "unispect_disk_free_bytes",
        "unispect_disk_size_bytes",
    ]
    assert list(DiskUsage(tmp_path / "nothing").collect()) == []


def test_the_latency_has_the_agreed_buckets(server: RunningServer) -> None:
    samples = scrape(server)["unispect_inspection_seconds"].samples
    bounds = {sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")}
    assert bounds == {str(bound) for bound in INSPECTION_BUCKETS} | {"+Inf"}


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
    paths = server.client.get("/openapi.json").json()["paths"]
    tags = {tag.lower().replace(" ", "-") for path in paths.values() for one in path.values() for tag in one["tags"]}
    assert {label["api"] for label in labels if "api" in label} <= tags | {"pages", "files", "unmatched"}
    assert {label["outcome"] for label in labels if "api" in label} <= set(OUTCOMES)
    assert {label["part_class"] for label in labels if "part_class" in label} == {
        part.name for part in manifest.part_classes
    }
    assert not [label for label in labels if "made" in str(label) or "VERB" in str(label)]


def test_a_client_that_leaves_while_sending_costs_nothing(server: RunningServer) -> None:
    def gone() -> float:
        return value(scrape(server), "unispect_requests_total", api="inspection", outcome="gone")

    before = gone()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nhalf"
        connection.sendall(head.encode())
    server.wait_for(lambda: gone() == before + 1)
    assert value(scrape(server), "unispect_queue_depth") == 0
    assert "ClientDisconnect" not in server.log.read_text()
