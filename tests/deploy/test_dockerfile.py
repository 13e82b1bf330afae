"""What Dockerfile.l4t and deploy/Dockerfile.cpu promise, read by a parser."""

import re
import tomllib
from pathlib import Path

import pytest

from service.settings import Settings
from tests.deploy.dockerfile import CPU, JETSON, ROOT, Stage, parse, stages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IGNORED = {JETSON: ROOT / ".dockerignore", CPU: CPU.with_name(f"{CPU.name}.dockerignore")}
# Of each Dockerfile: images that it begins with, and commands that install packages.
COUNTS = {JETSON: (5, 4), CPU: (3, 2)}


@pytest.fixture(params=[JETSON, CPU], ids=lambda path: path.name)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def image(file: Path) -> Stage:
    return stages(file)[-1]


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


def test_every_image_has_an_exact_tag(file: Path) -> None:
    names = {stage.name for stage in stages(file)}
    images = [stage.base for stage in stages(file) if stage.base not in names]
    assert len(images) == COUNTS[file][0]
    # Debian's versions have two numbers.
    exact = r":[a-z]*\d+\.\d+\.\d+[\w.-]*$|debian:\d+\.\d+-slim$|@sha256:[0-9a-f]{64}$"
    assert not [image for image in images if not re.search(exact, image)]


def test_both_images_are_made_with_the_same_tools() -> None:
    for pattern in (r"uv python install (\S+)", r"astral-sh/(uv:\S+)"):
        assert re.findall(pattern, CPU.read_text()) == re.findall(pattern, JETSON.read_text()) != []


def test_what_is_copied_is_there_and_is_all_that_the_daemon_gets(file: Path) -> None:
    earlier: set[str | None] = set()
    sources = set()
    for stage in stages(file):
        for origin, paths in stage.copies():
            if origin is None:
                sources |= set(paths)
            else:
                assert origin in earlier
        earlier.add(stage.name)
    assert not [path for path in sources if not (ROOT / path).exists()]
    ignored = IGNORED[file].read_text().splitlines()
    assert "*" in ignored
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == sources


def test_every_install_is_of_hashed_packages(file: Path) -> None:
    commands = [command for stage in stages(file) for run in stage.all("RUN") for command in run.split("&&")]
    installs = [command for command in commands if re.search(r"\bpip\b", command)]
    assert len(installs) == COUNTS[file][1]
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install
        assert "--require-build-hashes" in install or "--only-binary :all:" in install or "--no-index" in install


def test_the_image_holds_what_the_build_stage_made_and_no_tool(file: Path, image: Stage) -> None:
    assert {origin for origin, _ in image.copies()} == {"build"}
    made = ["/opt/python", "/opt/unispect", "/opt/app", "/etc/ssl/certs/ca-certificates.crt"]
    assert sorted(path for _, paths in image.copies() for path in paths) == sorted(made)
    made_for_serving = [run for stage in stages(file) for run in stage.all("RUN") if "/opt/unispect" in run]
    assert made_for_serving
    (user_and_folder,) = image.all("RUN")
    assert not re.search(r"\b(apt|apt-get|pip|uv|curl|wget)\b", user_and_folder)


def test_it_runs_as_a_user_of_its_own_who_owns_its_data(image: Stage) -> None:
    user = image.only("USER")
    created = re.search(rf"useradd (.*) {user}\b", image.only("RUN"))[1]
    assert int(re.search(r"--uid (\d+)", created)[1]) > 0
    assert f"--owner {user} --group {user} {image.only('VOLUME')}" in image.only("RUN")
    assert image.instructions.index(("USER", user)) < [name for name, _ in image.instructions].index("ENTRYPOINT")


def test_only_the_jetsons_user_may_use_the_gpu() -> None:
    assert "--groups video" in stages(JETSON)[-1].only("RUN")
    assert "--groups" not in stages(CPU)[-1].only("RUN")


def test_the_settings_in_the_image_are_the_services(file: Path, image: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {name: value for name, value in parse(file).envs.items() if name.startswith("UNISPECT_")}
    assert {name.removeprefix("UNISPECT_").lower() for name in variables} <= set(Settings.model_fields)
    assert variables["UNISPECT_DATA_DIR"] == image.only("VOLUME")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(Settings().port) == image.only("EXPOSE")


def test_it_starts_the_service_itself_and_stops_it_with_sigterm(image: Stage) -> None:
    (program,) = image.executed("ENTRYPOINT")
    assert PROJECT["scripts"][program].startswith("service.")
    assert image.only("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_runs_a_module_of_the_service(image: Stage) -> None:
    python, option, module, *_ = image.executed("HEALTHCHECK")
    assert (python, option) == ("python", "-m")
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_it_is_labelled_with_what_it_is(file: Path) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in parse(file).labels.items()}
    assert labels["title"] == PROJECT["name"]
    assert labels["version"] == PROJECT["version"]
    assert {"description", "revision", "base.name"} <= labels.keys()
