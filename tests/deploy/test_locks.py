"""The locks of the Jetson's image: whole, hashed, and there for CPython 3.11 on aarch64 with glibc 2.31."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deploy.locks import DEPLOY, Locked, command_of, read_lock

ROOT = DEPLOY.parent
SERVING = DEPLOY / "requirements-l4t.lock"
BUILDING = DEPLOY / "requirements-l4t-build.lock"
EXTRAS = ("service", "cpu", "tensorrt")
# pycuda has no wheel; Dockerfile.l4t compiles it.
COMPILED = "pycuda"
GLIBC = Version("2.31")


def asked_for_serving() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    return [Requirement(line) for line in lines]


def asked_for_building() -> list[Requirement]:
    lines = (DEPLOY / "requirements-l4t-build.in").read_text().splitlines()
    return [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]


@pytest.mark.parametrize(("lock", "asked"), [(SERVING, asked_for_serving), (BUILDING, asked_for_building)])
def test_every_dependency_is_locked_as_it_is_asked_for(lock: Path, asked) -> None:
    locked = read_lock(lock)
    wrong = [
        str(requirement)
        for requirement in asked()
        if (package := locked.get(canonicalize_name(requirement.name))) is None
        or package.version not in requirement.specifier
    ]
    assert not wrong, f"Make {lock.name} anew: {command_of(lock)}"


@pytest.mark.parametrize("lock", [SERVING, BUILDING])
def test_every_package_has_hashes(lock: Path) -> None:
    packages = read_lock(lock)
    assert packages
    assert not [name for name, package in packages.items() if not package.hashes]


def test_nothing_of_training_is_served() -> None:
    assert not read_lock(SERVING).keys() & {"torch", "scikit-learn", "scipy", "matplotlib", "cmake", "setuptools"}


def test_what_compiles_is_the_version_that_serves() -> None:
    assert read_lock(BUILDING)["numpy"].version == read_lock(SERVING)["numpy"].version


@pytest.mark.parametrize("lock", [SERVING, BUILDING])
def test_the_command_that_made_a_lock_is_documented(lock: Path) -> None:
    command = command_of(lock)
    for flag in ("--python-version 3.11", "--python-platform aarch64-manylinux_2_31", "--generate-hashes"):
        assert flag in command
    documented = re.sub(r"\s*\\\n\s*", " ", (ROOT / "docs" / "install-jetson.md").read_text())
    assert command in documented


@pytest.mark.slow
@pytest.mark.parametrize("lock", [SERVING, BUILDING])
def test_the_lock_downloads_for_the_device_and_asks_for_no_newer_glibc(lock: Path, tmp_path: Path) -> None:
    packages = {name: package for name, package in read_lock(lock).items() if name != COMPILED}
    download(packages, tmp_path)
    wheels = sorted(tmp_path.glob("*.whl"))
    assert len(wheels) == len(packages) == len(list(tmp_path.iterdir())) - 1
    needed = {wheel.name: newest_glibc(wheel) for wheel in wheels}
    assert any(needed.values())
    assert not {name: str(version) for name, version in needed.items() if version and version > GLIBC}
    sizes = {wheel: sum(entry.file_size for entry in zipfile.ZipFile(wheel).infolist()) for wheel in wheels}
    print(f"\n{lock.name}: {len(wheels)} wheels")
    print(f"{sum(wheel.stat().st_size for wheel in wheels) / 1e6:.1f} MB, unpacked {sum(sizes.values()) / 1e6:.1f} MB")
    for wheel in sorted(wheels, key=sizes.__getitem__, reverse=True)[:6]:
        print(f"{sizes[wheel] / 1e6:8.1f} MB  {wheel.name}")


def download(packages: dict[str, Locked], folder: Path) -> None:
    """Fetch the wheels with pip, which checks their hashes."""
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(package.line for package in packages.values()))
    # To pip a platform is one tag; to a machine with glibc 2.31 every older one is good too.
    tags = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC.minor + 1))]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11"),
            *(word for tag in tags for word in ("--platform", tag)),
            *("--dest", str(folder), "--requirement", str(requirements)),
        ],
        check=True,
    )


def newest_glibc(wheel: Path) -> Version | None:
    """The newest version of glibc's symbols that a wheel's libraries name; None where it has no library."""
    with zipfile.ZipFile(wheel) as archive:
        libraries = [archive.read(name) for name in archive.namelist() if ".so" in Path(name).name]
    found = {match for library in libraries for match in re.findall(rb"\bGLIBC_(2\.\d+)", library)}
    return max((Version(version.decode()) for version in found), default=None)
