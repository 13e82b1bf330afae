"""The Compose files: services hardened, with settings that exist. And the unit that sets the Jetson's clocks."""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from service.security.keys import KeyFile
from service.security.roles import Role
from service.settings import Settings, read_settings
from tests.deploy.dockerfile import CPU, JETSON, ROOT, stages

JETSON_FILE, WATCHED = (ROOT / "deploy" / name for name in ("compose.jetson.yaml", "compose.yaml"))
FILES = {JETSON_FILE: JETSON, WATCHED: CPU}
UNIT = ROOT / "deploy" / "systemd" / "unispect-clocks.service"


def read_compose(path: Path, **environment: str) -> dict:
    """The file as Compose reads it: ${NAME:-default} and ${NAME:?why} replaced."""

    def value(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        if name in environment:
            return environment[name]
        assert operator == ":-", f"{name}: {word}"
        return word

    return yaml.safe_load(re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, path.read_text()))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def compose(file: Path) -> dict:
    return read_compose(file, UNISPECT_BUNDLE_FOLDER="/somewhere/parts")


@pytest.fixture
def service(compose: dict) -> dict:
    return compose["services"]["inspection"]


def test_the_bundle_must_be_said(file: Path) -> None:
    with pytest.raises(AssertionError, match="UNISPECT_BUNDLE_FOLDER"):
        read_compose(file)


def test_the_settings_exist_and_are_valid(service: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = service["environment"]
    assert {name.removeprefix("UNISPECT_").lower() for name in variables} <= set(Settings.model_fields)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = read_settings([])
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    assert {str(settings.bundle), str(settings.data_dir)} == mounted
    assert "/somewhere/parts:/bundle:ro" in service["volumes"]


def test_no_service_has_a_privilege_and_all_are_published_on_loopback(compose: dict) -> None:
    for service in compose["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.keys() & {"privileged", "user", "cap_add", "devices"}
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(("/", "."))}
        assert named <= compose["volumes"].keys()
        from_here = [volume for volume in service["volumes"] if volume.startswith(("/", "."))]
        assert all(volume.endswith(":ro") for volume in from_here)


def test_what_is_mounted_from_the_repository_is_there(file: Path, compose: dict) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            if volume.startswith("."):
                assert (file.parent / volume.split(":")[0]).exists()


def test_the_inspection_can_write_its_data_and_nothing_else(service: dict) -> None:
    assert service["read_only"] is True
    assert "network_mode" not in service
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert [volume for volume in service["volumes"] if not volume.endswith(":ro")] == ["data:/data"]


def test_it_comes_back_and_is_not_cut_while_it_drains(service: dict) -> None:
    assert service["restart"] in ("always", "unless-stopped")
    drain = int(service["environment"]["UNISPECT_DRAIN_SECONDS"])
    assert int(service["stop_grace_period"].removesuffix("s")) > drain


def test_the_health_check_is_the_images(file: Path, service: dict) -> None:
    image = stages(FILES[file])[-1]
    check = service["healthcheck"]
    assert check["test"] == ["CMD", *image.executed("HEALTHCHECK")]
    options = dict(re.findall(r"--([a-z-]+)=(\S+)", image.only("HEALTHCHECK")))
    assert {name.replace("-", "_"): value for name, value in options.items()} == {
        name: str(value) for name, value in check.items() if name != "test"
    }


def test_it_builds_the_dockerfile_with_arguments_that_it_has(file: Path, service: dict) -> None:
    build = service["build"]
    context = (file.parent / build["context"]).resolve()
    assert context == ROOT
    assert context / build["dockerfile"] == FILES[file]
    first_lines = FILES[file].read_text().partition("FROM")[0]
    for name, value in build.get("args", {}).items():
        assert f"ARG {name}={value}" in first_lines.splitlines()


def test_the_jetson_gives_its_gpu_to_the_service() -> None:
    jetson = read_compose(JETSON_FILE, UNISPECT_BUNDLE_FOLDER="/somewhere/parts")
    assert jetson["services"]["inspection"]["runtime"] == "nvidia"
    assert jetson["services"].keys() == {"inspection"}


def test_every_image_from_elsewhere_has_an_exact_version() -> None:
    services = read_compose(WATCHED, UNISPECT_BUNDLE_FOLDER="/somewhere/parts")["services"]
    elsewhere = [service["image"] for service in services.values() if "build" not in service]
    assert len(elsewhere) == 2
    assert all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in elsewhere)


def test_prometheus_has_its_key_before_it_and_the_service_start(tmp_path: Path) -> None:
    services = read_compose(WATCHED, UNISPECT_BUNDLE_FOLDER="/somewhere/parts")["services"]
    keys = services["keys"]
    for name in ("inspection", "prometheus"):
        assert services[name]["depends_on"] == {"keys": {"condition": "service_completed_successfully"}}
    assert "keys:/keys:ro" in services["prometheus"]["volumes"]
    shell, option = keys["entrypoint"]
    (script,) = keys["command"]
    script = script.replace("/keys/", f"{tmp_path}/")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "UNISPECT_DATA_DIR": str(tmp_path / "data")}
    (tmp_path / "data").mkdir()

    def run() -> str:
        subprocess.run([shell, option, script], env=environment, check=True, timeout=60)
        return (tmp_path / "prometheus").read_text().strip()

    key = run()
    assert run() == key
    (tmp_path / "prometheus").unlink()
    assert run() != key
    kept = KeyFile(tmp_path / "data").read()
    assert [(one.name, one.role, one.revoked is None) for one in kept] == [
        ("prometheus", Role.INSPECT, False),
        ("prometheus", Role.INSPECT, True),
    ]
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.compose.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "/keys/prometheus"
    assert job["static_configs"] == [{"targets": ["inspection:8000"]}]


def read_unit(path: Path) -> ConfigParser:
    """A unit file; of keys that are given several times, the last."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(path.read_text())
    return unit


def test_the_clocks_are_set_before_docker_starts_and_given_back() -> None:
    unit = read_unit(UNIT)
    assert unit["Unit"]["Before"] == "docker.service"
    assert (unit["Service"]["Type"], unit["Service"]["RemainAfterExit"]) == ("oneshot", "yes")
    commands = re.findall(r"^Exec(Start|Stop)=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert [kind for kind, _ in commands] == ["Start", "Start", "Start", "Stop"]
    assert all(command.startswith("/usr/") for _, command in commands)
    defined = {line.partition("=")[0] for line in re.findall(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)}
    assert {name for _, command in commands for name in re.findall(r"\$\{(\w+)\}", command)} == defined
    stored, restored = (re.search(r"(/run/\S+)", commands[index][1])[1] for index in (1, 3))
    assert stored == restored
