"""The real service under load, watched by a real Prometheus: every query of the dashboards and rules has data."""

import math
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.security.keys import KeyFile
from service.security.roles import Role
from tests.deploy.dockerfile import ROOT
from tests.deploy.watching import (
    DASHBOARDS,
    PROMETHEUS,
    RULES,
    Query,
    alert_selectors,
    panel_queries,
    program,
    recorded_queries,
)
from tests.service.running import RunningServer, free_port, running_server
from tests.service.test_telemetry import write_sysfs

SECONDS = 60.0


@dataclass
class Watched:
    """A service, the key that opens its metrics, and a Prometheus that scrapes it each second."""

    server: RunningServer
    key: str
    prometheus: httpx.Client

    def values(self, query: Query) -> list[float]:
        """The samples that a query gives now."""
        answer = self.prometheus.get("/api/v1/query", params={"query": query.expression}).json()
        assert answer["status"] == "success", (query, answer)
        result = answer["data"]["result"]
        return [float(one["value"][1]) for one in result] if answer["data"]["resultType"] == "vector" else []

    def without_data(self, queries: Iterable[Query]) -> list[Query]:
        """Those that have none but NaN after some scrapes; a little later for what needs more of them."""
        left = list(queries)
        assert left
        until = time.monotonic() + SECONDS
        while left and time.monotonic() < until:
            left = [query for query in left if not any(map(math.isfinite, self.values(query)))]
            time.sleep(0.5)
        return left


@pytest.fixture(scope="module")
def watched(bundle_folder: Path, parts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    prometheus = program("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    write_sysfs(folder / "sys")
    (folder / "data").mkdir()
    key = KeyFile(folder / "data").create("prometheus", Role.INSPECT)
    (folder / "key").write_text(f"{key}\n")
    pictures = [path.read_bytes() for path in sorted(parts_folder.glob("*/test/*/*.png"))]
    with (
        running_server(bundle_folder, folder, "--sysfs-root", str(folder / "sys")) as server,
        posting(server, key, [*pictures, b"no picture"]),
        running_prometheus(prometheus, folder, server.url.removeprefix("http://")) as client,
    ):
        yield Watched(server, key, client)


@contextmanager
def posting(server: RunningServer, key: str, bodies: list[bytes]) -> Iterator[None]:
    """Post for as long as the block lasts, some tens of images a second."""
    ended = threading.Event()

    def post() -> None:
        headers = {"Content-Type": "application/octet-stream", "X-API-Key": key}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            while not ended.is_set():
                for body in bodies:
                    client.post("/v1/inspections", content=body)
                    ended.wait(0.02)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def running_prometheus(prometheus: str, folder: Path, target: str) -> Iterator[httpx.Client]:
    """A Prometheus with the configuration of compose, which differs in its target and in how often it looks."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.compose.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(path) for path in RULES]
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(folder / "key")
    job["static_configs"] = [{"targets": [target]}]
    path, port = folder / "prometheus.yml", free_port()
    path.write_text(yaml.safe_dump(config))
    flags = [
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([prometheus, *flags], stderr=log, stdout=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            wait_ready(client, process, folder / "prometheus.log")
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_ready(client: httpx.Client, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            if client.get("/-/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_the_service_is_scraped_with_its_key(watched: Watched) -> None:
    assert watched.server.client.get("/metrics").status_code == 401
    assert watched.without_data([Query("up", "up == 1")]) == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data(watched: Watched, path: Path) -> None:
    assert watched.without_data(panel_queries(path)) == []


def test_every_recorded_series_has_data(watched: Watched) -> None:
    queries = recorded_queries()
    assert watched.without_data(queries) == []
    assert watched.without_data(Query("recorded", query.where) for query in queries) == []


def test_what_alerts_look_at_is_there(watched: Watched) -> None:
    assert watched.without_data(alert_selectors()) == []


def test_rules_are_evaluated_without_error_and_none_that_is_critical_fires(watched: Watched) -> None:
    groups = watched.prometheus.get("/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert not [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"]
    critical = [rule for rule in rules if rule.get("labels", {}).get("severity") == "critical"]
    assert critical
    assert not [rule["name"] for rule in critical if rule["state"] == "firing"]


def test_an_alert_fires_with_its_cause(watched: Watched) -> None:
    """The one whose cause can be made at will: the sensors of the supply."""
    counter = watched.server.log.parent / "sys/class/hwmon/hwmon2/oc3_event_cnt"
    before = int(counter.read_text())
    firing = Query("alert", 'ALERTS{alertname="UnispectSupplyWeak", alertstate="firing"}')
    assert watched.values(firing) == []
    counter.write_text(f"{before + 1000}\n")
    assert watched.without_data([firing]) == []


def test_the_metrics_are_those_of_the_runbook(watched: Watched) -> None:
    text = watched.server.client.get("/metrics", headers={"X-API-Key": watched.key}).text
    names = {family.name for family in text_string_to_metric_families(text)}
    told = set(re.findall(r"`unispect_(\w+)`", (ROOT / "docs" / "runbook.md").read_text()))
    counted = {name.removeprefix("unispect_") for name in names if name.startswith("unispect_")}
    assert {name.removesuffix("_total") for name in told} == counted


def test_the_metrics_are_as_prometheus_wants_them(watched: Watched) -> None:
    text = watched.server.client.get("/metrics", headers={"X-API-Key": watched.key}).text
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
