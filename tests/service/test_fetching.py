"""Bundles from an address: taken whole and verified, kept for a start without the network, refused in one sentence."""

import logging
import shutil
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import bundle as bundles
from engines import signatures
from engines.signatures import TrustedKeys
from service import bundle_source
from service.bundle_source import Source
from service.errors import FetchFailed, StartError
from service.fetching import FetchedBundles
from tests.service.file_server import FileServer, file_server
from tests.service.running import free_port, running_server
from tests.service.security.test_tls import issue
from tests.service.test_engines import archive, version_of
from tests.service.test_start import assert_refused, start

LIMIT = 20 * 2**20


@pytest.fixture(scope="module")
def zips(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bundle as four versions, packed."""
    folder = tmp_path_factory.mktemp("versions")
    return {name: archive(version_of(bundle_folder, folder / name, name)) for name in ("one", "two", "three", "four")}


@pytest.fixture
def server(zips: dict[str, bytes]) -> Iterator[FileServer]:
    with file_server(content=zips["one"], etag='"1"') as running:
        yield running


def fetch(url: str, folder: Path, trusted: TrustedKeys | None = None, limit: int = LIMIT) -> str:
    """The version of the bundle that would serve; it is verified once more."""
    bundle = FetchedBundles(folder, limit, trusted).fetch(Source(url, signed=trusted is not None))
    assert bundles.load(bundle.folder).manifest == bundle.manifest
    return bundle.manifest.version


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_has_not_changed_is_not_read_again(server: FileServer, zips: dict[str, bytes], tmp_path: Path) -> None:
    url = f"{server.url}/parts.zip"
    assert [fetch(url, tmp_path) for _ in range(3)] == ["one"] * 3
    assert server.downloads == 1
    server.content, server.etag = zips["two"], '"2"'
    assert [fetch(url, tmp_path) for _ in range(2)] == ["two"] * 2
    assert server.downloads == 2
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_server_that_tells_no_version_is_read_each_time(
    server: FileServer, zips: dict[str, bytes], tmp_path: Path
) -> None:
    server.etag = ""
    assert fetch(f"{server.url}/parts.zip", tmp_path) == "one"
    server.content = zips["two"]
    assert fetch(f"{server.url}/parts.zip", tmp_path) == "two"


def break_archive(server: FileServer, zips: dict[str, bytes]) -> None:
    server.content = zips["two"][:-200]


def break_model(server: FileServer, zips: dict[str, bytes]) -> None:
    server.content = zips["two"].replace(b"bundle.json", b"bundle.jsin")


def cut_off(server: FileServer, zips: dict[str, bytes]) -> None:
    server.content, server.promised = zips["two"][:5000], len(zips["two"])


def refuse(server: FileServer, _: dict[str, bytes]) -> None:
    server.status = 403


def lose(server: FileServer, _: dict[str, bytes]) -> None:
    server.status = 404


def fail(server: FileServer, _: dict[str, bytes]) -> None:
    server.status = 500


def swell(server: FileServer, _: dict[str, bytes]) -> None:
    server.content = b"\0" * (LIMIT + 1)


def swell_silently(server: FileServer, _: dict[str, bytes]) -> None:
    server.content, server.promised = b"\0" * (LIMIT + 1), -1


WRONG = [
    (break_archive, "a bundle's folder as a ZIP file"),
    (break_model, "no bundle.json"),
    (cut_off, "it was cut off"),
    (refuse, "the server answers 403"),
    (lose, "the server answers 404"),
    (fail, "the server answers 500"),
    (swell, f"more than {LIMIT} bytes"),
    (swell_silently, f"more than {LIMIT} bytes"),
]


@pytest.mark.parametrize(("spoil", "words"), WRONG, ids=[spoil.__name__ for spoil, _ in WRONG])
def test_what_cannot_be_taken_is_said_and_what_was_fetched_last_serves(
    server: FileServer, zips: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil, words: str
) -> None:
    url, folder = f"{server.url}/parts.zip", tmp_path / "fetched"
    assert fetch(url, folder) == "one"
    kept = content_of(folder)
    server.etag = '"2"'
    spoil(server, zips)
    assert fetch(url, folder) == "one"
    (said,) = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert words in said
    assert content_of(folder) == kept
    with pytest.raises(FetchFailed) as caught:
        fetch(url, tmp_path / "empty")
    assert words in str(caught.value)
    assert url in str(caught.value)
    assert content_of(tmp_path / "empty") == {}


def test_the_last_three_addresses_need_no_network(
    server: FileServer, zips: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, content in zips.items():
        server.content, server.etag = content, f'"{name}"'
        assert fetch(f"{server.url}/{name}.zip", tmp_path) == name
    server.status = 503
    for name in ("two", "three", "four", "three"):
        assert fetch(f"{server.url}/{name}.zip", tmp_path) == name
    with pytest.raises(FetchFailed, match="503"):
        fetch(f"{server.url}/one.zip", tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_a_kept_bundle_that_was_damaged_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    url = f"{server.url}/parts.zip"
    assert fetch(url, tmp_path) == "one"
    (model,) = tmp_path.rglob(bundles.MODEL)
    model.write_bytes(b"something else")
    assert fetch(url, tmp_path) == "one"
    assert server.downloads == 2
    model.write_bytes(b"something else")
    server.status = 500
    with pytest.raises(FetchFailed, match="500"):
        fetch(url, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 9}'])
def test_a_record_that_cannot_be_read_costs_a_download(server: FileServer, tmp_path: Path, content: bytes) -> None:
    url = f"{server.url}/parts.zip"
    assert fetch(url, tmp_path) == "one"
    (tmp_path / "fetched.json").write_bytes(content)
    assert fetch(url, tmp_path) == "one"
    assert server.downloads == 2


def test_what_a_killed_service_left_is_cleared_away(server: FileServer, tmp_path: Path) -> None:
    for name in (".fetch.abc", ".0123.xyz"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "archive").write_bytes(b"half")
    assert fetch(f"{server.url}/parts.zip", tmp_path) == "one"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_server_that_drips_holds_no_start_up(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_source, "_MOST_SECONDS", 0.3)
    monkeypatch.setattr(bundle_source, "_CHUNK", 4096)
    server.drip_seconds = 0.1
    with pytest.raises(FetchFailed, match="not arrived"):
        fetch(f"{server.url}/parts.zip", tmp_path)


def test_only_what_trusted_keys_signed_is_taken(
    server: FileServer, signed_bundle: Path, signing_key: Path, zips: dict[str, bytes], tmp_path: Path
) -> None:
    trusted = TrustedKeys.read(Path(f"{signing_key}.pub"))
    url, folder = f"{server.url}/parts.zip", tmp_path / "fetched"
    with pytest.raises(FetchFailed, match="not signed"):
        fetch(url, folder, trusted)
    server.content, server.etag = archive(signed_bundle), '"signed"'
    version = bundles.load(signed_bundle).manifest.version
    assert fetch(url, folder, trusted) == version
    server.content, server.etag = zips["two"], '"2"'
    assert fetch(url, folder, trusted) == version
    other = tmp_path / "other"
    signatures.generate(other)
    with pytest.raises(FetchFailed, match="not signed"):
        fetch(url, folder, TrustedKeys.read(Path(f"{other}.pub")))


def test_no_secret_of_an_address_is_said_or_kept(
    server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = server.url.replace("://", "://camera:hunter2@") + "/parts.zip?X-Amz-Signature=deadbeef"
    assert fetch(secret, tmp_path) == "one"
    for status in (403, 500):
        server.status = status
        assert fetch(secret, tmp_path) == "one"
        with pytest.raises(FetchFailed) as caught:
            fetch(secret, tmp_path / "empty")
        caplog.records.append(logging.makeLogRecord({"msg": str(caught.value)}))
    said = "\n".join(record.getMessage() for record in caplog.records)
    said += (tmp_path / "fetched.json").read_text()
    assert "/parts.zip" in said
    assert not [word for word in ("hunter2", "deadbeef", "X-Amz", "camera") if word in said]


def test_an_address_with_user_and_password_opens_what_needs_them(server: FileServer, tmp_path: Path) -> None:
    server.needed = "Basic Y2FtZXJhOmh1bnRlcjI="
    assert fetch(server.url.replace("://", "://camera:hunter2@") + "/parts.zip", tmp_path) == "one"
    with pytest.raises(FetchFailed, match="401"):
        fetch(f"{server.url}/parts.zip", tmp_path / "empty")


@pytest.mark.parametrize(
    "url",
    [
        "parts.zip",
        "ftp://host/parts.zip",
        "s3://bucket",
        "s3://bucket/",
        "https:///parts.zip",
        "file://folder/parts.zip",
        "memory://parts.zip",
        "http://[::1/parts.zip",
        "https://host/",
        "simplecache::https://host/parts.zip",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(StartError, match="s3://bucket/key"):
        Source(url, signed=True)


def test_an_address_that_others_could_change_needs_signatures(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="https://"):
        Source("http://192.0.2.1/parts.zip", signed=False)
    assert Source("http://192.0.2.1/parts.zip", signed=True)
    with file_server(host="127.0.0.2", content=server.content) as elsewhere:
        server.status, server.location = 302, f"{elsewhere.url}/parts.zip"
        with pytest.raises(FetchFailed, match="sends us on"):
            fetch(f"{server.url}/parts.zip", tmp_path)
        assert not elsewhere.downloads


def test_a_certificate_of_an_unknown_authority_is_refused(
    zips: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = issue(tmp_path, "authority")
    issued = issue(tmp_path, "store", authority)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(issued.certificate, issued.key)
    with file_server(tls, content=zips["one"]) as server:
        refused = start("--bundle-url", f"{server.url}/parts.zip", "--data-dir", str(tmp_path / "data"))
        assert refused.returncode == 2
        assert "certificate is refused" in refused.stderr
        assert "SSL_CERT_FILE" in refused.stderr
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        flags = ("--bundle-url", f"{server.url}/parts.zip")
        with running_server(tmp_path / "none", tmp_path / "server", *flags) as running:
            assert running.client.get("/v1/engine").json()["version"] == "one"


def test_a_file_is_taken_and_a_folder_is_not(zips: dict[str, bytes], bundle_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "all parts.zip"
    file.write_bytes(zips["one"])
    assert fetch(file.as_uri(), tmp_path / "fetched") == "one"
    file.unlink()
    assert fetch(file.as_uri(), tmp_path / "fetched") == "one"
    with pytest.raises(FetchFailed, match="is a folder"):
        fetch(bundle_folder.as_uri(), tmp_path / "empty")
    with pytest.raises(FetchFailed, match="there is nothing"):
        fetch((tmp_path / "nothing.zip").as_uri(), tmp_path / "empty")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StartError, match=r"unispect\[fleet\]"):
        Source("s3://bucket/parts.zip", signed=False)


def test_a_folder_that_cannot_be_made_is_said(server: FileServer, tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("")
    with pytest.raises(FetchFailed, match="cannot be taken: File exists"):
        fetch(f"{server.url}/parts.zip", folder)


def test_a_service_starts_again_without_the_network_and_changes_over_with_its_address(
    zips: dict[str, bytes], tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing"
    with file_server(content=zips["one"], etag='"1"') as store:
        one, two = f"{store.url}/one.zip", f"{store.url}/two.zip"
        with running_server(nothing, tmp_path, "--bundle-url", one) as server:
            assert server.client.get("/v1/engine").json()["version"] == "one"
        store.content = zips["two"]
        with running_server(nothing, tmp_path, "--bundle-url", two) as server:
            assert server.client.get("/v1/engine").json()["version"] == "two"
            assert len(server.client.get("/v1/engines").json()["engines"]) == 2
    with running_server(nothing, tmp_path, "--bundle-url", one) as server:
        assert server.client.get("/v1/engine").json()["version"] == "one"
        assert "What was fetched last serves" in server.log.read_text()
    shutil.rmtree(tmp_path / "data")
    refused = start("--bundle-url", one, "--data-dir", str(tmp_path / "data"))
    assert (refused.returncode, one in refused.stderr, "Traceback" in refused.stderr) == (2, True, False)


def test_a_wrong_address_is_named_at_the_start(tmp_path: Path) -> None:
    assert_refused(start("--bundle-url", "parts.zip", "--data-dir", str(tmp_path)), "bundle_url", "s3://bucket/key")
    nobody = f"http://127.0.0.1:{free_port()}/parts.zip"
    refused = start("--bundle-url", nobody, "--data-dir", str(tmp_path))
    assert refused.returncode == 2
    assert f"inspection-service: The bundle at {nobody} cannot be taken" in refused.stderr
