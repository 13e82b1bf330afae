"""The page, the API's documentation and the description of the engine."""

import re

import pytest

from engines.bundle import Manifest
from tests.service.running import RunningServer


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_elsewhere(server: RunningServer, path: str) -> None:
    response = server.client.get(path)
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', response.text)
    assert len(loaded) >= 3
    for address in loaded:
        assert address.startswith("/")
        assert server.client.get(address).status_code == 200


def test_the_page_runs_no_inline_script(server: RunningServer) -> None:
    response = server.client.get("/")
    assert "unsafe" not in response.headers["content-security-policy"]
    assert "<style" not in response.text and " style=" not in response.text and " onclick=" not in response.text


def test_the_links_of_the_page_lead_somewhere(server: RunningServer) -> None:
    for address in re.findall(r'<a href="([^"]+)"', server.client.get("/").text):
        assert server.client.get(address).status_code == 200


def test_the_api_is_documented_with_its_bodies_and_problems(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    history = {f"/v1/inspections{part}" for part in ("", ".csv", "/stream", "/{id}", "/{id}/image", "/{id}/review")}
    health = {"/v1/engine", "/livez", "/readyz", "/healthz", "/metrics"}
    assert history | health <= set(document["paths"])
    assert all(operation["summary"] for path in document["paths"].values() for operation in path.values())
    operation = document["paths"]["/v1/inspections"]["post"]
    assert set(operation["requestBody"]["content"]) == {"image/*", "application/octet-stream", "multipart/form-data"}
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {"part_class", "part_id", "station", "heatmap"}
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "image/png"}
    for status in ("413", "415", "422", "503"):
        assert set(operation["responses"][status]["content"]) == {"application/problem+json"}


def test_the_engine_is_described(server: RunningServer, manifest: Manifest) -> None:
    engine = server.client.get("/v1/engine").json()
    assert engine["name"] == manifest.name
    assert engine["version"] == manifest.version
    assert (engine["method"], engine["precision"]) == (manifest.method, manifest.precision)
    assert engine["backend"] == "openvino"
    assert engine["input"] == manifest.input.model_dump()
    assert [(part["name"], part["threshold"], part["false_reject_rate"]) for part in engine["part_classes"]] == [
        (part.name, part.threshold, part.false_reject_rate) for part in manifest.part_classes
    ]
    assert engine["metrics"] == manifest.metrics
    assert engine["created"][:19] == manifest.created.isoformat()[:19]
