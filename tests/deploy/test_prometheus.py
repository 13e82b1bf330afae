"""deploy/prometheus: the configuration is valid, every alert is proven to fire and not to, and has its runbook."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from service.metrics import INSPECTION_BUCKETS
from tests.deploy.dockerfile import ROOT
from tests.deploy.watching import PROMETHEUS, RULES, alerts, program, rules

TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
CONFIGS = (PROMETHEUS / "prometheus.yml", PROMETHEUS / "prometheus.compose.yml")
RUNBOOK = ROOT / "docs" / "runbook.md"


def promtool(*arguments: str | Path) -> None:
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_for_devices_is_valid() -> None:
    promtool("check", "config", CONFIGS[0])


def test_the_configuration_of_compose_is_valid(tmp_path: Path) -> None:
    key = tmp_path / "prometheus"
    key.touch()
    text = CONFIGS[1].read_text().replace("/keys/prometheus", str(key))
    for path in RULES:
        text = text.replace(f"- {path.name}", f"- {path}")
    config = tmp_path / "prometheus.yml"
    config.write_text(text)
    promtool("check", "config", config)


def test_both_configurations_watch_in_the_same_way() -> None:
    devices, compose = (yaml.safe_load(path.read_text()) for path in CONFIGS)
    assert devices["global"] == compose["global"]
    assert devices["rule_files"] == compose["rule_files"] == [path.name for path in RULES]
    (devices_job,), (compose_job,) = devices["scrape_configs"], compose["scrape_configs"]
    assert devices_job["job_name"] == compose_job["job_name"]


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", *RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(path: Path) -> None:
    promtool("test", "rules", path)


def test_every_alert_is_proven_to_fire_and_not_to() -> None:
    proven = Counter(
        (case["alertname"], bool(case["exp_alerts"]))
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    )
    assert set(proven) == {(name, fires) for name in alerts() for fires in (True, False)}


def test_every_alert_says_how_bad_what_it_is_and_where_to_read_on() -> None:
    for name, rule in alerts().items():
        assert name.startswith("Unispect")
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert_with_what_to_do() -> None:
    _, *sections = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)
    texts = dict(section.split("\n", 1) for section in sections)
    about = {name: text for name, text in texts.items() if name.startswith("Unispect")}
    assert about.keys() == alerts().keys()
    without_steps = [name for name, text in about.items() if not re.search(r"^1\. ", text, re.MULTILINE)]
    assert not without_steps
    anchors = set(re.findall(r"\(#(\w+)\)", RUNBOOK.read_text()))
    assert anchors <= {name.lower() for name in alerts()}


def test_recorded_names_say_level_metric_and_operation() -> None:
    names = [rule["record"] for rule in rules() if "record" in rule]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"unispect:latency_budget:seconds|instance\w*:unispect_\w+:\w+_?\d+[mhd]", name), name


def test_the_latency_budget_is_a_bucket() -> None:
    (budget,) = [rule["expr"] for rule in rules() if rule.get("record") == "unispect:latency_budget:seconds"]
    assert float(budget.removeprefix("vector(").removesuffix(")")) in INSPECTION_BUCKETS
