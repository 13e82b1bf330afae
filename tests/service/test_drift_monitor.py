"""Drift as the service tells it, through a restart."""

from pathlib import Path

import pytest
import yaml

from engines.bundle import Manifest
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server
from tests.service.test_metrics import scrape, value

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"


def told(server: RunningServer) -> dict[str, dict]:
    return {one["part_class"]: one for one in server.client.get("/v1/drift").json()["part_classes"]}


def test_parts_that_pass_are_tested_and_known_after_a_restart(
    bundle_folder: Path, pictures: list[bytes], manifest: Manifest, tmp_path: Path
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        answers = [server.client.post("/v1/inspections", content=data, headers=RAW).json() for data in pictures]
        before = told(server)
        shown = scrape(server)
    assert set(before) == {part.name for part in manifest.part_classes}
    for name, found in before.items():
        passes = [one for one in answers if (one["part_class"], one["verdict"]) == (name, "pass")]
        assert found["parts"] == len(passes) > 0
        assert (found["drifting"], found["direction"], found["since"]) == (False, None, None)
        assert value(shown, "unispect_drift", part_class=name) == pytest.approx(found["statistic"], abs=1e-3)
    with running_server(bundle_folder, tmp_path) as server:
        assert told(server) == before


def test_the_alert_is_on_what_the_service_tells(server: RunningServer) -> None:
    (rule,) = [
        rule
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if rule["alert"] == "UnispectDrift"
    ]
    metric, _, level = rule["expr"].partition(" >= ")
    assert metric in scrape(server)
    assert float(level) == server.client.get("/v1/drift").json()["alarm"]
