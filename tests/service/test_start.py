"""Settings, and what a wrong start says: one sentence and exit code 2."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engines.bundle import MANIFEST, MODEL
from service.settings import Settings, read_settings
from tests.service.conftest import RAW
from tests.service.running import PROGRAM, running_server


def start(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UNISPECT_")}
    return subprocess.run([*PROGRAM, *flags], env=clean | environment, capture_output=True, text=True, timeout=60)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stdout == ""
    for word in ("inspection-service: ", *words):
        assert word in result.stderr


def test_no_bundle() -> None:
    assert_refused(start(), "--bundle", "UNISPECT_BUNDLE")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--port", "many"], "--port"),
        (["--port", "70000"], "UNISPECT_PORT"),
        (["--backend", "abacus"], "--backend"),
        (["--max-queue", "0"], "--max-queue"),
        (["--log-level", "loud"], "--log-level"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--port"], "--port"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_flag_is_named(flags: list[str], word: str) -> None:
    assert_refused(start("--bundle", "anywhere", *flags), word)


def test_a_wrong_variable_is_named() -> None:
    assert_refused(start(UNISPECT_BUNDLE="anywhere", UNISPECT_THREADS="-1"), "UNISPECT_THREADS", "-1")


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    assert_refused(start("--bundle", str(tmp_path / "nothing")), str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", [MANIFEST, MODEL])
def test_an_altered_bundle_is_named(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle_folder, copy)
    file = copy / name
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"method"', b'"mathod"') if name == MANIFEST else content + b"\0")
    assert_refused(start("--bundle", str(copy), "--data-dir", str(tmp_path)), name)


def test_a_busy_port_is_named(bundle_folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        result = start("--bundle", str(bundle_folder), "--data-dir", str(tmp_path), "--port", port)
    assert_refused(result, port, "--port")


def test_a_data_folder_that_cannot_be_made_is_named(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(start("--bundle", str(bundle_folder), "--data-dir", str(tmp_path / "file" / "data")), "data")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
def test_without_a_key_a_service_that_others_can_reach_is_refused(
    bundle_folder: Path, tmp_path: Path, host: str
) -> None:
    flags = ["--bundle", str(bundle_folder), "--data-dir", str(tmp_path), "--host", host]
    assert_refused(start(*flags), host, "keys create")


def test_a_broken_file_of_keys_is_named(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    (tmp_path / "keys.json").chmod(0o600)
    assert_refused(start("--bundle", str(bundle_folder), "--data-dir", str(tmp_path)), "keys.json")


def test_a_wrong_certificate_is_named(bundle_folder: Path, tmp_path: Path) -> None:
    flags = ["--bundle", str(bundle_folder), "--data-dir", str(tmp_path), "--tls-certificate", str(tmp_path / "no.pem")]
    assert_refused(start(*flags), "no.pem")


def test_the_help_lists_every_setting() -> None:
    result = start("--help")
    assert result.returncode == 0
    flags = set(re.findall(r"--[a-z-]+", result.stdout))
    assert {f"--{name.replace('_', '-')}" for name in Settings.model_fields} <= flags


def test_flags_go_before_the_environment_and_both_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISPECT_PORT", "9001")
    monkeypatch.setenv("UNISPECT_BUNDLE", "~/engine")
    monkeypatch.setenv("UNISPECT_MAX_QUEUE", "5")
    settings = read_settings(["--port", "9002"])
    assert (settings.port, settings.max_queue, settings.host) == (9002, 5, "127.0.0.1")
    assert settings.bundle == Path.home() / "engine"
    assert all(field.description for field in Settings.model_fields.values())


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from service.__main__ import main
code = main()
loaded = [name for name, module in sys.modules.items() if module and name.split(".")[0] in ("torch", "build_engines")]
sys.exit(f"loaded: {loaded}" if loaded else code)
"""


def test_serving_needs_no_torch_and_no_builder(bundle_folder: Path, tmp_path: Path, picture: bytes) -> None:
    with running_server(bundle_folder, tmp_path, program=(sys.executable, "-c", WITHOUT_TORCH)) as server:
        for heatmap in ("none", "overlay", "map"):
            response = server.client.post("/v1/inspections", params={"heatmap": heatmap}, content=picture, headers=RAW)
            assert response.status_code == 200
        assert server.stop() == 0, server.log.read_text()


def test_what_is_written_is_written_in_the_data_folder(bundle_folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle_folder.rglob("*")}
    with running_server(bundle_folder, tmp_path):
        assert list((tmp_path / "data" / "cache").iterdir())
    assert {path: path.stat().st_mtime_ns for path in bundle_folder.rglob("*")} == before
