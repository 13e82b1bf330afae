"""What watches the service, as its files say it: rules and the dashboards' queries."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.deploy.dockerfile import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RULES = (PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml")
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
# What Grafana puts in: all instances and stages, and an interval of some scrapes.
_VARIABLES = {"$__rate_interval": "10s", "$instance": ".+", "$stage": ".+"}
_SELECTOR = re.compile(r"\b((?:instance\w*:|unispect[:_])[\w:]+|process_\w+|up(?=\{))(\{[^}]*\})?")


@dataclass(frozen=True)
class Query:
    """A question to Prometheus, and where it stands."""

    where: str
    expression: str


def program(name: str) -> str:
    """Where a program of Debian's package prometheus is; skips the test where it is not."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here; install Debian's package prometheus")
    return path


def rules() -> list[dict]:
    """All rules of all groups."""
    groups = (group for path in RULES for group in yaml.safe_load(path.read_text())["groups"])
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict]:
    """The alerting rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded_queries() -> list[Query]:
    """What the recording rules ask."""
    return [Query(rule["record"], rule["expr"]) for rule in rules() if "record" in rule]


def alert_selectors() -> list[Query]:
    """What the alerts look at: each series that they select, for an alert itself is silent while all is well."""
    return [
        Query(name, "".join(found.groups(default="")))
        for name, rule in alerts().items()
        for found in _SELECTOR.finditer(rule["expr"])
    ]


def panels(path: Path) -> list[dict]:
    """A dashboard's panels without its rows."""
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def panel_queries(path: Path) -> Iterator[Query]:
    """What a dashboard's panels ask, with its variables put in."""
    for panel in panels(path):
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in _VARIABLES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, expression
            yield Query(f"{path.stem}: {panel['title']}", expression)
