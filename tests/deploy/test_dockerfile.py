"""What Dockerfile.l4t promises, read by a parser."""

import re
import tomllib

import pytest

from service.settings import Settings
from tests.deploy.dockerfile import ROOT, parse, stages

IMAGE = stages()[-1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("jetpack", ["5", "6"])
def test_one_argument_chooses_a_development_image_and_its_runtime(jetpack: str) -> None:
    everything = stages(JETPACK=jetpack)
    images = {stage.name: stage.base for stage in everything}
    build = next(stage for stage in everything if stage.name == "build")
    assert images[build.base].endswith("-devel")
    assert images[everything[-1].base].endswith("-runtime")
    versions = {re.search(r":r(\d+\.\d+\.\d+)", images[base])[1] for base in (build.base, everything[-1].base)}
    assert len(versions) == 1
    (tag,) = next(stage for stage in everything if stage.name == build.base).all("ENV")
    assert tag.removeprefix("TENSORRT_TAG=").removeprefix("v") in versions


def test_every_image_has_an_exact_tag() -> None:
    names = {stage.name for stage in stages()}
    images = [stage.base for stage in stages() if stage.base not in names]
    assert len(images) == 5
    assert not [
        image for image in images if not re.search(r":[a-z]*\d+\.\d+\.\d+[\w.-]*$|@sha256:[0-9a-f]{64}$", image)
    ]


def test_what_is_copied_is_there_and_is_all_that_the_daemon_gets() -> None:
    earlier: set[str | None] = set()
    sources = set()
    for stage in stages():
        for origin, paths in stage.copies():
            if origin is None:
                sources |= set(paths)
            else:
                assert origin in earlier
        earlier.add(stage.name)
    assert not [path for path in sources if not (ROOT / path).exists()]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == sources


def test_every_install_is_of_hashed_packages() -> None:
    commands = [command for stage in stages() for run in stage.all("RUN") for command in run.split("&&")]
    installs = [command for command in commands if re.search(r"\bpip\b", command)]
    assert len(installs) == 4
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install
        assert "--require-build-hashes" in install or "--only-binary :all:" in install or "--no-index" in install


def test_the_image_holds_what_the_build_stage_made_and_no_tool() -> None:
    assert IMAGE.copies() == [("build", [path]) for path in ("/opt/python", "/opt/unispect", "/opt/app")]
    made_for_serving = [run for stage in stages() for run in stage.all("RUN") if "/opt/unispect" in run]
    assert made_for_serving
    (user_and_folder,) = IMAGE.all("RUN")
    assert not re.search(r"\b(apt|apt-get|pip|uv|curl|wget)\b", user_and_folder)


def test_it_runs_as_a_user_of_its_own_who_may_use_the_gpu() -> None:
    user = IMAGE.only("USER")
    created = re.search(rf"useradd (.*) {user}\b", IMAGE.only("RUN"))[1]
    assert int(re.search(r"--uid (\d+)", created)[1]) > 0
    assert "--groups video" in created
    assert IMAGE.instructions.index(("USER", user)) < [name for name, _ in IMAGE.instructions].index("ENTRYPOINT")


def test_the_settings_in_the_image_are_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {name: value for name, value in parse().envs.items() if name.startswith("UNISPECT_")}
    assert {name.removeprefix("UNISPECT_").lower() for name in variables} <= set(Settings.model_fields)
    assert variables["UNISPECT_DATA_DIR"] == IMAGE.only("VOLUME")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(Settings().port) == IMAGE.only("EXPOSE")


def test_it_starts_the_service_itself_and_stops_it_with_sigterm() -> None:
    (program,) = IMAGE.executed("ENTRYPOINT")
    assert PROJECT["scripts"][program].startswith("service.")
    assert IMAGE.only("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_runs_a_module_of_the_service() -> None:
    python, option, module, *_ = IMAGE.executed("HEALTHCHECK")
    assert (python, option) == ("python", "-m")
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_it_is_labelled_with_what_it_is() -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in parse().labels.items()}
    assert labels["title"] == PROJECT["name"]
    assert labels["version"] == PROJECT["version"]
    assert {"description", "revision", "base.name"} <= labels.keys()
