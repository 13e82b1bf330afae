"""The API's documentation and the description of the engine."""

from engines.bundle import Manifest
from tests.service.running import RunningServer


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
