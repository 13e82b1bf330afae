"""Engines in service: kept, activated under load, rolled back, refused; and the shadow beside them."""

import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from engines import bundle as bundles
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server

URL = "/v1/inspections"
ZIP = {"Content-Type": "application/zip"}


def version_of(bundle: Path, folder: Path, version: str, factor: float = 1.0, name: str | None = None) -> Path:
    """The bundle as another version whose thresholds are `factor` times as high, so that answers tell them apart."""
    shutil.copytree(bundle, folder)
    manifest = bundles.load(folder).manifest
    parts = [part.model_copy(update={"threshold": part.threshold * factor}) for part in manifest.part_classes]
    changed = {"version": version, "part_classes": parts, "name": name or manifest.name}
    bundles.save_manifest(folder, manifest.model_copy(update=changed))
    return folder


def archive(folder: Path, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"{folder.name}/{path.name}")
        for name, content in more.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def versions(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    return {
        "two": version_of(bundle_folder, folder / "two", "two", 2.0),
        "odd": version_of(bundle_folder, folder / "odd", "odd", 3.0, name="other"),
    }


@contextmanager
def serving(bundle_folder: Path, folder: Path, versions: dict[str, Path]) -> Iterator[RunningServer]:
    with running_server(bundle_folder, folder) as server:
        for version in versions.values():
            assert server.client.post("/v1/engines", content=archive(version), headers=ZIP).status_code in (200, 201)
        yield server


def path_of(folder: Path, act: str = "activate") -> str:
    manifest = bundles.load(folder).manifest
    return f"/v1/engines/{manifest.name}/versions/{manifest.version}/{act}"


def test_an_engine_is_kept_activated_and_rolled_back_and_it_survives_a_restart(
    bundle_folder: Path, tmp_path: Path, versions: dict[str, Path], picture: bytes
) -> None:
    first = bundles.load(bundle_folder).manifest
    with serving(bundle_folder, tmp_path, versions) as server:
        listed = server.client.get("/v1/engines").json()
        assert {one["version"] for one in listed["engines"]} == {first.version, "two", "odd"}
        assert listed["active"] == {"name": first.name, "version": first.version}
        before = server.client.post(URL, content=picture, headers=RAW).json()
        answer = server.client.post(path_of(versions["two"]))
        assert answer.status_code == 200
        assert answer.json()["engine"]["version"] == "two"
        assert answer.json()["previous"]["version"] == first.version
        after = server.client.post(URL, content=picture, headers=RAW).json()
        assert (before["engine"]["version"], after["engine"]["version"]) == (first.version, "two")
        assert after["threshold"] == pytest.approx(2 * before["threshold"])
        assert after["score"] == pytest.approx(before["score"])
        assert 'version="two"' in server.client.get("/metrics").text
        assert server.client.post(path_of(versions["odd"])).json()["engine"]["name"] == "other"
        assert server.stop() == 0
    with running_server(bundle_folder, tmp_path) as server:
        assert server.client.get("/v1/engine").json()["name"] == "other"
        assert server.client.post("/v1/engines/rollback").json()["engine"]["version"] == "two"
        assert server.client.post("/v1/engines/rollback").json()["engine"]["version"] == first.version
        refused = server.client.post("/v1/engines/rollback")
        assert (refused.status_code, refused.json()["type"]) == (404, "urn:unispect:problem:unknown-engine")
        assert "No engine served before" in refused.json()["detail"]


def test_a_service_started_with_another_bundle_serves_that_one(
    bundle_folder: Path, tmp_path: Path, versions: dict[str, Path]
) -> None:
    with serving(bundle_folder, tmp_path, versions) as server:
        server.client.post(path_of(versions["two"])).raise_for_status()
    with running_server(versions["odd"], tmp_path) as server:
        assert server.client.get("/v1/engine").json()["version"] == "odd"


def test_no_request_fails_while_engines_change(
    bundle_folder: Path, tmp_path: Path, versions: dict[str, Path], picture: bytes
) -> None:
    thresholds, statuses, over = {}, set(), threading.Event()

    def keep_asking(url: str) -> int:
        count = 0
        with httpx.Client(base_url=url, timeout=60) as client:
            while not over.is_set():
                response = client.post(URL, content=picture, headers=RAW)
                statuses.add(response.status_code)
                answer = response.json()
                thresholds.setdefault(answer["engine"]["version"], set()).add(answer["threshold"])
                count += 1
        return count

    with serving(bundle_folder, tmp_path, versions) as server, ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(keep_asking, server.url) for _ in range(4)]
        try:
            for _ in range(3):
                server.client.post(path_of(versions["two"])).raise_for_status()
                server.client.post("/v1/engines/rollback").raise_for_status()
        finally:
            over.set()
        assert sum(one.result() for one in asking) > 6
    assert statuses == {200}
    assert len(thresholds) == 2
    assert all(len(values) == 1 for values in thresholds.values()), thresholds


def test_an_engine_that_scores_otherwise_is_not_activated(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    wrong = version_of(bundle_folder, tmp_path / "wrong", "wrong")
    manifest = bundles.load(wrong).manifest
    golden = manifest.golden.model_copy(update={"score": manifest.golden.score * 2 + 1})
    bundles.save_manifest(wrong, manifest.model_copy(update={"golden": golden}))
    with serving(bundle_folder, tmp_path / "server", {"wrong": wrong}) as server:
        refused = server.client.post(path_of(wrong))
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:unispect:problem:activation-failed")
        assert "golden image" in refused.json()["detail"]
        assert "serves on" in refused.json()["detail"]
        answer = server.client.post(URL, content=picture, headers=RAW)
        assert answer.status_code == 200
        assert answer.json()["engine"]["version"] == manifest_version(bundle_folder)
        assert server.client.get("/readyz").json() | {"elapsed_seconds": 0} == {
            "status": "ok",
            "stage": "ready",
            "reason": None,
            "elapsed_seconds": 0,
        }


def manifest_version(folder: Path) -> str:
    return bundles.load(folder).manifest.version


def test_what_is_no_bundle_is_refused_and_leaves_nothing(
    bundle_folder: Path, tmp_path: Path, versions: dict[str, Path]
) -> None:
    other = version_of(bundle_folder, tmp_path / "other", "two", 5.0)
    altered = tmp_path / "altered"
    shutil.copytree(versions["two"], altered)
    (altered / bundles.MODEL).write_bytes(b"something else")
    link = zipfile.ZipInfo("bundle.json")
    link.external_attr = 0o120777 << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as file:
        file.writestr(link, "/etc/passwd")
    cases = [
        (b"no archive", "invalid-archive", "cannot be read"),
        (archive(versions["two"])[:-100], "invalid-archive", "cannot be read"),
        (archive(versions["two"], **{"../../escaped": b"x"}), "invalid-archive", "is no plain file"),
        (archive(versions["two"], **{"/etc/escaped": b"x"}), "invalid-archive", "is no plain file"),
        (linked.getvalue(), "invalid-archive", "is no plain file"),
        (archive(altered), "invalid-bundle", "model.onnx"),
        (archive(other), "engine-exists", "Another bundle is kept as"),
        (archive(versions["two"], **{f"file{n}": b"" for n in range(20)}), "invalid-archive", "no more than"),
    ]
    with serving(bundle_folder, tmp_path / "server", {"two": versions["two"]}) as server:
        before = tree(tmp_path / "server")
        for content, kind, sentence in cases:
            response = server.client.post("/v1/engines", content=content, headers=ZIP)
            assert response.status_code in (409, 422), response.text
            assert response.json()["type"] == f"urn:unispect:problem:{kind}"
            assert sentence in response.json()["detail"]
        assert tree(tmp_path / "server") == before
        assert server.client.post("/v1/engines", content=archive(versions["two"]), headers=ZIP).status_code == 200


def test_a_bomb_is_not_unpacked(bundle_folder: Path, tmp_path: Path) -> None:
    bomb = version_of(bundle_folder, tmp_path / "bomb", "bomb")
    with (bomb / "zeros").open("wb") as file:
        file.truncate(200 * 2**20)
    content = archive(bomb)
    assert len(content) < 20 * 2**20
    with running_server(bundle_folder, tmp_path / "server", "--max-bundle-bytes", str(100 * 2**20)) as server:
        before = tree(tmp_path / "server")
        response = server.client.post("/v1/engines", content=content, headers=ZIP)
        assert (response.status_code, response.json()["type"]) == (422, "urn:unispect:problem:invalid-archive")
        assert "above 104857600 bytes" in response.json()["detail"]
        assert tree(tmp_path / "server") == before


def tree(folder: Path) -> set[str]:
    return {str(path) for path in (folder / "data" / "engines").rglob("*")}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/engines/none/versions/1/activate", 404),
        ("/v1/engines/%2e%2e/versions/x/activate", 404),
        ("/v1/engines/.hidden/versions/x/activate", 404),
    ],
)
def test_an_engine_that_is_not_there_cannot_be_activated(server: RunningServer, path: str, status: int) -> None:
    response = server.client.post(path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_an_engine_in_use_is_not_deleted_and_another_one_is(
    bundle_folder: Path, tmp_path: Path, versions: dict[str, Path]
) -> None:
    with serving(bundle_folder, tmp_path, versions) as server:
        server.client.post(path_of(versions["two"])).raise_for_status()
        assert server.client.delete(path_of(versions["two"], "").rstrip("/")).status_code == 409
        assert server.client.delete(path_of(versions["odd"], "").rstrip("/")).status_code == 204
        assert len(server.client.get("/v1/engines").json()["engines"]) == 2


def test_a_shadow_sees_what_is_inspected_and_its_disagreement_is_counted(
    bundle_folder: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    strict = version_of(bundle_folder, tmp_path / "strict", "strict", 1e-6)
    with serving(bundle_folder, tmp_path / "server", {"strict": strict}) as server:
        name = bundles.load(strict).manifest.name
        answer = server.client.put("/v1/shadow", json={"name": name, "version": "strict"})
        assert answer.status_code == 200
        assert answer.json()["engine"]["version"] == "strict"
        passed = 0
        for count, one in enumerate(pictures[:6], start=1):
            given = server.client.post(URL, content=one, headers=RAW).json()
            assert given["engine"]["version"] != "strict"
            passed += given["verdict"] == "pass"
            server.wait_for(lambda wanted=count: server.client.get("/v1/shadow").json()["inspections"] == wanted)
        seen = server.client.get("/v1/shadow").json()
        assert (seen["inspections"], seen["disagreements"]) == (6, passed)
        assert passed
        assert (
            f'unispect_shadow_inspections_total{{agreement="disagrees"}} {passed}.0'
            in server.client.get("/metrics").text
        )
        assert server.stop() == 0
    with running_server(bundle_folder, tmp_path / "server") as server:
        server.wait_for(lambda: server.client.get("/v1/shadow").json()["backend"] == "openvino")
        assert server.client.delete("/v1/shadow").status_code == 204
        assert server.client.get("/v1/shadow").json()["engine"] is None
