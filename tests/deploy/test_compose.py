"""deploy/compose.jetson.yaml: the service hardened, with settings that exist. And the unit that sets the clocks."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from service.settings import Settings, read_settings
from tests.deploy.dockerfile import ROOT, stages

FILE = ROOT / "deploy" / "compose.jetson.yaml"
UNIT = ROOT / "deploy" / "systemd" / "unispect-clocks.service"
IMAGE = stages()[-1]


def read_compose(**environment: str) -> dict:
    """The file as Compose reads it: ${NAME:-default} and ${NAME:?why} replaced."""

    def value(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        if name in environment:
            return environment[name]
        assert operator == ":-", f"{name}: {word}"
        return word

    return yaml.safe_load(re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, FILE.read_text()))


@pytest.fixture
def service() -> dict:
    (only,) = read_compose(UNISPECT_BUNDLE_FOLDER="/somewhere/parts")["services"].values()
    return only


def test_the_bundle_must_be_said() -> None:
    with pytest.raises(AssertionError, match="UNISPECT_BUNDLE_FOLDER"):
        read_compose()


def test_the_settings_exist_and_are_valid(service: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = service["environment"]
    assert {name.removeprefix("UNISPECT_").lower() for name in variables} <= set(Settings.model_fields)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = read_settings([])
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    assert {str(settings.bundle), str(settings.data_dir)} == mounted
    assert "/somewhere/parts:/bundle:ro" in service["volumes"]


def test_only_the_data_can_be_written_and_no_privilege_is_left(service: dict) -> None:
    assert service["runtime"] == "nvidia"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.keys() & {"privileged", "user", "cap_add", "devices", "network_mode"}
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert [volume.split(":")[0] for volume in writable] == list(read_compose(UNISPECT_BUNDLE_FOLDER="/b")["volumes"])


def test_it_comes_back_and_is_not_cut_while_it_drains(service: dict) -> None:
    assert service["restart"] in ("always", "unless-stopped")
    drain = int(service["environment"]["UNISPECT_DRAIN_SECONDS"])
    assert int(service["stop_grace_period"].removesuffix("s")) > drain


def test_the_health_check_is_the_images(service: dict) -> None:
    check = service["healthcheck"]
    assert check["test"] == ["CMD", *IMAGE.executed("HEALTHCHECK")]
    options = dict(re.findall(r"--([a-z-]+)=(\S+)", IMAGE.only("HEALTHCHECK")))
    assert {name.replace("-", "_"): value for name, value in options.items()} == {
        name: str(value) for name, value in check.items() if name != "test"
    }


def test_it_builds_the_dockerfile_with_arguments_that_it_has(service: dict) -> None:
    build = service["build"]
    context = (FILE.parent / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()
    first_lines = (context / build["dockerfile"]).read_text().partition("FROM")[0]
    for name, value in build["args"].items():
        assert f"ARG {name}={value}" in first_lines.splitlines()


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
