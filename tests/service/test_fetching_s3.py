"""Bundles from an object store that speaks S3: moto's server, over HTTP, through the client that devices use."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from service.errors import FetchFailed
from tests.service.running import free_port, running_server
from tests.service.test_engines import archive, version_of
from tests.service.test_fetching import fetch

BUCKET = "bundles"
URL = f"s3://{BUCKET}/hall-3/parts.zip"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of the store with one empty bucket; the environment says how it is reached, as on a device."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture(scope="module")
def zips(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("versions")
    return {name: archive(version_of(bundle_folder, folder / name, name)) for name in ("one", "two")}


def put(store, content: bytes) -> None:
    store.put_object(Bucket=BUCKET, Key=urlsplit(URL).path.lstrip("/"), Body=content)


def test_an_object_is_read_once_for_each_content(
    store, zips: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert len(zips["one"]) > 2**20, "it is to be read in several ranges"
    put(store, zips["one"])
    assert [fetch(URL, tmp_path) for _ in range(2)] == ["one"] * 2
    put(store, zips["two"])
    assert [fetch(URL, tmp_path) for _ in range(2)] == ["two"] * 2
    assert sum(record.message.startswith("Fetching") for record in caplog.records) == 2


def test_what_is_not_there_is_named(store, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match=r"s3://bundles/hall-3/parts\.zip.*there is nothing"):
        fetch(URL, tmp_path)
    with pytest.raises(FetchFailed, match=r"s3://no-such-bucket/parts\.zip"):
        fetch("s3://no-such-bucket/parts.zip", tmp_path)


def test_a_prefix_is_a_folder_and_no_archive(store, zips: dict[str, bytes], tmp_path: Path) -> None:
    put(store, zips["one"])
    with pytest.raises(FetchFailed, match="is a folder"):
        fetch(f"s3://{BUCKET}/hall-3", tmp_path)


def test_a_store_that_is_away_holds_no_start_up_for_long(
    store, zips: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, zips["one"])
    assert fetch(URL, tmp_path) == "one"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert fetch(URL, tmp_path) == "one"
    assert time.monotonic() - began < 20
    assert "What was fetched last serves" in caplog.text


def test_a_device_without_credentials_is_told_so(store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(FetchFailed, match="credentials"):
        fetch(URL, tmp_path)


def test_a_service_serves_what_the_store_has(store, zips: dict[str, bytes], tmp_path: Path) -> None:
    put(store, zips["two"])
    flags = ("--bundle-url", URL, "--log-level", "debug")
    with running_server(tmp_path / "none", tmp_path, *flags) as server:
        assert server.client.get("/v1/engine").json()["version"] == "two"
        assert "hunter2" not in server.log.read_text()
