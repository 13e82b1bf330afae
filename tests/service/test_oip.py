"""The Open Inference Protocol, spoken by Triton's own client."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from engines import bundle as bundles
from engines.bundle import Manifest
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server

BY_DEFAULT = {
    *("verdict", "score", "threshold", "p_value", "part_class", "unknown_part", "regions", "id", "engine_version"),
}


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=30) as client:
        yield client


def tensor(name: str, elements: list[bytes], *, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, [len(elements)], "BYTES")
    made.set_data_from_numpy(np.array(elements, dtype=object), binary_data=binary)
    return made


def test_the_server_and_the_model_are_live_and_ready(client: triton.InferenceServerClient, manifest: Manifest) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(manifest.name)
    assert client.is_model_ready(manifest.name, manifest.version)
    assert not client.is_model_ready("another")
    assert not client.is_model_ready(manifest.name, "another")


def test_the_metadata_name_the_tensors(client: triton.InferenceServerClient, manifest: Manifest) -> None:
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(manifest.name, manifest.version)
    assert (metadata["name"], metadata["versions"]) == (manifest.name, [manifest.version])
    outputs = {output["name"]: output for output in metadata["outputs"]}
    assert metadata["inputs"][0] | {"parameters": {}} == {
        "name": "image",
        "datatype": "BYTES",
        "shape": [-1],
        "parameters": {},
    }
    assert outputs["anomaly_map"]["shape"] == [-1, *manifest.map_size]
    assert set(outputs) == BY_DEFAULT | {"anomaly_map", "overlay"}


def test_the_repository_holds_the_engine(client: triton.InferenceServerClient, manifest: Manifest) -> None:
    index = client.get_model_repository_index()
    assert {"name": manifest.name, "version": manifest.version, "state": "READY", "reason": ""} in index


def test_several_images_get_the_results_of_single_inspections(
    client: triton.InferenceServerClient, server: RunningServer, pictures: list[bytes], alien: bytes, manifest: Manifest
) -> None:
    images = [*pictures[:3], alien]
    single = [server.client.post("/v1/inspections", content=data, headers=RAW).json() for data in images]
    answer = client.infer(manifest.name, [tensor("image", images)], request_id="line-3")
    response = answer.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == (
        manifest.name,
        manifest.version,
        "line-3",
    )
    assert {output["name"] for output in response["outputs"]} == BY_DEFAULT
    assert answer.as_numpy("score") == pytest.approx([one["score"] for one in single], rel=1e-5)
    assert answer.as_numpy("threshold").tolist() == [one["threshold"] for one in single]
    assert [verdict.decode() for verdict in answer.as_numpy("verdict")] == [one["verdict"] for one in single]
    assert [name.decode() for name in answer.as_numpy("part_class")] == [one["part_class"] for one in single]
    assert answer.as_numpy("unknown_part").tolist() == [one["unknown_part"] for one in single]
    assert [len(json.loads(regions)) for regions in answer.as_numpy("regions")] == [
        len(one["regions"]) for one in single
    ]
    assert len(set(answer.as_numpy("id"))) == len(images)
    assert set(answer.as_numpy("engine_version")) == {manifest.version.encode()}


@pytest.mark.parametrize("binary", [True, False])
def test_the_map_and_the_overlay_come_when_named(
    client: triton.InferenceServerClient, alien: bytes, manifest: Manifest, binary: bool
) -> None:
    names = ("anomaly_map", "overlay", "regions")
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    answer = client.infer(manifest.name, [tensor("image", [alien])], outputs=outputs)
    peaks = [region["peak"] for region in json.loads(answer.as_numpy("regions")[0])]
    maps, overlay = answer.as_numpy("anomaly_map"), answer.as_numpy("overlay")[0]
    assert [output["name"] for output in answer.get_response()["outputs"]] == list(names)
    assert maps.shape == (1, *manifest.map_size)
    assert maps.dtype == np.float32
    assert maps.max() == pytest.approx(max(peaks), rel=1e-6)
    assert Image.open(io.BytesIO(overlay if binary else base64.b64decode(overlay))).size == (300, 200)


def test_class_and_part_id_are_given_for_each_image(
    client: triton.InferenceServerClient, pictures: list[bytes], manifest: Manifest
) -> None:
    classes = [part.name for part in manifest.part_classes]
    inputs = [tensor("image", pictures[:2]), tensor("part_class", [name.encode() for name in classes])]
    answer = client.infer(manifest.name, [*inputs, tensor("part_id", [b"", "Bögen 7".encode()])])
    assert [name.decode() for name in answer.as_numpy("part_class")] == classes
    same = client.infer(manifest.name, [tensor("image", pictures[:2])], parameters={"part_class": classes[1]})
    assert {name.decode() for name in same.as_numpy("part_class")} == {classes[1]}


def test_an_image_in_json_is_base64(server: RunningServer, picture: bytes, manifest: Manifest) -> None:
    image = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(picture).decode()],
    }
    response = server.client.post(f"/v2/models/{manifest.name}/infer", json={"inputs": [image]})
    score = next(output for output in response.json()["outputs"] if output["name"] == "score")
    expected = server.client.post("/v1/inspections", content=picture, headers=RAW).json()["score"]
    assert response.headers["content-type"] == "application/json"
    assert score["data"] == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"model": "another"}, "404", "another"),
        ({"version": "another"}, "404", "another"),
        ({"image": [b"hello"]}, "415", "not"),
        ({"image": []}, "400", "1 to"),
        ({"image": [b"x"] * 65}, "400", "64"),
        ({"part_class": [b"a", b"b"]}, "400", "one for each"),
        ({"part_class": [b"unheard"]}, "422", "unheard"),
        ({"part_class": [b"\xff"]}, "400", "UTF-8"),
        ({"part_id": [b"a\nb"]}, "422", "part_id"),
        ({"picture": [b"x"]}, "400", "picture"),
        ({"outputs": "mask"}, "400", "mask"),
        ({"parameters": {"partclass": "x"}}, "400", "partclass"),
    ],
)
def test_a_wrong_request_is_refused_in_the_protocols_words(
    client: triton.InferenceServerClient, picture: bytes, manifest: Manifest, change: dict, status: str, word: str
) -> None:
    tensors = {"image": [picture], **{name: value for name, value in change.items() if isinstance(value, list)}}
    outputs = [triton.InferRequestedOutput(change["outputs"])] if "outputs" in change else None
    with pytest.raises(InferenceServerException) as refused:
        client.infer(
            change.get("model", manifest.name),
            [tensor(name, elements) for name, elements in tensors.items()],
            model_version=change.get("version", ""),
            outputs=outputs,
            parameters=change.get("parameters"),
        )
    assert refused.value.status() == status
    assert word in refused.value.message()


def test_one_bad_image_of_several_is_named(
    client: triton.InferenceServerClient, picture: bytes, manifest: Manifest
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(manifest.name, [tensor("image", [picture, picture[:40]])])
    assert refused.value.status() == "422"
    assert "Image 1 of 2" in refused.value.message()


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"[" * 5000, None),
        (b"{}", "99"),
        (b"{}", "two"),
        (b'{"inputs":[]}', None),
        (b'{"inputs":[{"name":"image","datatype":"FP32","shape":[1],"data":[1.0]}]}', None),
        (b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"data":[1.0]}]}', None),
        (b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[1]}]}', None),
        (b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[2],"data":["x"]}]}', None),
        (b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"data":["x"]}]}tail', "73"),
        (
            b'{"inputs":[{"name":"i","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":8}}]}\x09\0\0\0abcd',
            "88",
        ),
        (b'{"inputs":[{"name":"i","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":2}}]}\x09\0', "88"),
        (b'{"inputs":[{"name":"i","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":-1}}]}', None),
    ],
)
def test_a_body_that_is_not_of_the_protocol_is_a_400(
    server: RunningServer, manifest: Manifest, body: bytes, length: str | None
) -> None:
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    response = server.client.post(f"/v2/models/{manifest.name}/infer", content=body, headers=headers)
    assert response.status_code == 400
    assert set(response.json()) == {"error"}


def test_errors_of_every_kind_under_v2_are_the_protocols(server: RunningServer) -> None:
    for method, path, status in (("GET", "/v2/nothing", 404), ("PUT", "/v2/health/live", 405)):
        response = server.client.request(method, path)
        assert (response.status_code, set(response.json())) == (status, {"error"})


def test_an_engine_that_cannot_be_opened_is_unavailable(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    (broken / bundles.MODEL).write_bytes(b"no network")
    name = bundles.save_manifest(broken, bundles.load(bundle_folder).manifest).manifest.name
    with running_server(broken, tmp_path / "server", wait=False) as server:
        server.wait_for(lambda: server.client.get("/readyz").json()["stage"] == "failed")
        with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert client.is_server_live()
            assert not client.is_server_ready()
            assert not client.is_model_ready(name)
            entries = [entry for entry in client.get_model_repository_index() if entry["name"] == name]
            assert [entry["state"] for entry in entries] == ["UNAVAILABLE"]
            with pytest.raises(InferenceServerException) as refused:
                client.infer(name, [tensor("image", [picture])])
            assert refused.value.status() == "503"
