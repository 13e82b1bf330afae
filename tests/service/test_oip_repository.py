"""The model repository of the Open Inference Protocol, by Triton's own client: engines listed, loaded, not unloaded."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from engines import bundle as bundles
from engines.bundle import Manifest
from tests.service.running import RunningServer, running_server
from tests.service.test_engines import ZIP, archive, version_of
from tests.service.test_oip import tensor


@pytest.fixture(scope="module")
def kept(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that keeps another version, built a day later, and another engine."""
    folder = tmp_path_factory.mktemp("repository")
    later = version_of(bundle_folder, folder / "later", "later", 2.0)
    manifest = bundles.load(later).manifest
    bundles.save_manifest(later, manifest.model_copy(update={"created": manifest.created + timedelta(days=1)}))
    other = version_of(bundle_folder, folder / "other", "1", name="other")
    with running_server(bundle_folder, folder / "server") as server:
        for bundle in (later, other):
            assert server.client.post("/v1/engines", content=archive(bundle), headers=ZIP).status_code == 201
        yield server


@pytest.fixture
def client(kept: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(kept.url.removeprefix("http://"), network_timeout=60) as client:
        yield client


def ready(client: triton.InferenceServerClient) -> list[tuple[str, str]]:
    index = client.get_model_repository_index()
    assert {(entry["name"], entry["version"]) for entry in index} == {
        ("parts", "1"),
        ("parts", "later"),
        ("other", "1"),
    }
    return [(entry["name"], entry["version"]) for entry in index if entry["state"] == "READY"]


def test_loading_puts_the_newest_version_or_the_named_one_into_service(
    client: triton.InferenceServerClient, picture: bytes, manifest: Manifest
) -> None:
    name = manifest.name
    assert ready(client) == [(name, manifest.version)]
    before = client.infer(name, [tensor("image", [picture])])
    client.load_model(name)
    assert ready(client) == [(name, "later")]
    assert not client.is_model_ready(name, manifest.version)
    after = client.infer(name, [tensor("image", [picture])], model_version="later")
    assert after.get_response()["model_version"] == "later"
    assert after.as_numpy("threshold") == pytest.approx(before.as_numpy("threshold") * 2.0)
    client.load_model(name, query_params={"version": manifest.version})
    assert ready(client) == [(name, manifest.version)]


def test_the_engine_that_serves_is_not_unloaded(client: triton.InferenceServerClient, manifest: Manifest) -> None:
    with pytest.raises(InferenceServerException, match="in its place") as refused:
        client.unload_model(manifest.name)
    assert refused.value.status() == "400"
    assert client.is_model_ready(manifest.name)
    client.unload_model("other")
    assert client.is_server_ready()


@pytest.mark.parametrize("act", ["load", "unload"])
def test_an_engine_that_is_not_kept_is_unknown(client: triton.InferenceServerClient, act: str) -> None:
    with pytest.raises(InferenceServerException, match="unheard") as refused:
        getattr(client, f"{act}_model")("unheard")
    assert refused.value.status() == "404"


def test_a_model_is_not_uploaded_by_loading(client: triton.InferenceServerClient, manifest: Manifest) -> None:
    with pytest.raises(InferenceServerException, match="/v1/engines") as refused:
        client.load_model(manifest.name, config="{}", files={"file:1/model.onnx": b"x"})
    assert refused.value.status() == "400"
