"""deploy/grafana: what Grafana loads, as far as it can be seen without it. test_watched.py asks a Prometheus."""

import json
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tests.deploy.watching import DASHBOARDS, GRAFANA, PROMETHEUS, panels


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def test_the_four_dashboards_are_known_by_fixed_names() -> None:
    found = {path.stem: load(path)["uid"] for path in DASHBOARDS}
    assert found == {name: f"unispect-{name}" for name in ("device", "fleet", "latency", "line")}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
class TestDashboard:
    def test_data_source_and_instance_can_be_chosen(self, path: Path) -> None:
        variables = {one["name"]: one for one in load(path)["templating"]["list"]}
        assert variables["datasource"]["type"] == "datasource"
        assert variables["instance"]["query"]["query"] == "label_values(unispect_ready, instance)"
        assert (variables["instance"]["multi"], variables["instance"]["includeAll"]) == (True, True)

    def test_every_query_goes_to_the_chosen_source_and_instances(self, path: Path) -> None:
        for panel in panels(path):
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            for target in panel["targets"]:
                assert target["datasource"] == panel["datasource"]
                chosen = 'instance=~"$instance"' in target["expr"]
                assert chosen or target["expr"] == "unispect:latency_budget:seconds"

    def test_panels_have_titles_of_their_own_and_lie_side_by_side(self, path: Path) -> None:
        everything = load(path)["panels"]
        assert len({panel["id"] for panel in everything}) == len(everything)
        assert len({panel["title"] for panel in everything}) == len(everything)
        places = [panel["gridPos"] for panel in everything]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for one, other in combinations(places, 2):
            apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert apart_x or apart_y

    def test_each_panel_asks_or_lists_alerts(self, path: Path) -> None:
        for panel in panels(path):
            references = [target["refId"] for target in panel["targets"]]
            assert references or panel["type"] == "alertlist"
            assert len(set(references)) == len(references)

    def test_links_lead_to_dashboards_that_are_there(self, path: Path) -> None:
        uids = {load(one)["uid"] for one in DASHBOARDS}
        assert all(link["tags"] == ["unispect"] for link in load(path)["links"])
        assert "unispect" in load(path)["tags"]
        linked = {part.split("?")[0].split('"')[0] for part in path.read_text().split("/d/")[1:]}
        assert linked <= uids


def test_a_heat_map_of_latency_is_there_and_one_for_each_stage() -> None:
    heat = [panel for panel in panels(GRAFANA / "dashboards" / "latency.json") if panel["type"] == "heatmap"]
    assert {panel.get("repeat") for panel in heat} == {None, "stage"}
    for panel in heat:
        assert panel["options"]["calculate"] is False
        assert [target["format"] for target in panel["targets"]] == ["heatmap"]


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]
    mounted = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/unispect.yml").read_text())["providers"]
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    home = Path(compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert (GRAFANA / "dashboards" / home.name).is_file()
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose
    config = yaml.safe_load((PROMETHEUS / "prometheus.compose.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
