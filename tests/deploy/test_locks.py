"""The images' locks: whole, hashed, and there for CPython 3.11 on their machines and with their glibc."""

import re
import subprocess
import sys
import tomllib
import zipfile
from functools import partial
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deploy.locks import DEPLOY, Locked, command_of, read_lock

ROOT = DEPLOY.parent
SERVING = DEPLOY / "requirements-l4t.lock"
BUILDING = DEPLOY / "requirements-l4t-build.lock"
CPU = DEPLOY / "requirements-cpu.lock"
# What serves in a fleet, on any machine.
EXTRAS = ("service", "cpu", "fleet", "postgres")
# pycuda has no wheel; Dockerfile.l4t compiles it.
COMPILED = "pycuda"
# Ubuntu 20.04 of JetPack 5, and Debian 12.
MACHINES = {
    SERVING: ("aarch64", Version("2.31")),
    BUILDING: ("aarch64", Version("2.31")),
    CPU: ("x86_64", Version("2.36")),
}


def asked_for_serving(*more: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in (*EXTRAS, *more) for line in extras[extra])]
    return [Requirement(line) for line in lines]


def asked_for_building() -> list[Requirement]:
    lines = (DEPLOY / "requirements-l4t-build.in").read_text().splitlines()
    return [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        (SERVING, partial(asked_for_serving, "tensorrt")),
        (BUILDING, asked_for_building),
        (CPU, asked_for_serving),
    ],
    ids=lambda value: getattr(value, "stem", ""),
)
def test_every_dependency_is_locked_as_it_is_asked_for(lock: Path, asked) -> None:
    locked = read_lock(lock)
    wrong = [
        str(requirement)
        for requirement in asked()
        if (package := locked.get(canonicalize_name(requirement.name))) is None
        or package.version not in requirement.specifier
    ]
    assert not wrong, f"Make {lock.name} anew: {command_of(lock)}"


@pytest.mark.parametrize("lock", MACHINES, ids=lambda lock: lock.stem)
def test_every_package_has_hashes(lock: Path) -> None:
    packages = read_lock(lock)
    assert packages
    assert not [name for name, package in packages.items() if not package.hashes]


@pytest.mark.parametrize("lock", [SERVING, CPU], ids=lambda lock: lock.stem)
def test_nothing_of_training_is_served(lock: Path) -> None:
    assert not read_lock(lock).keys() & {"torch", "scikit-learn", "scipy", "matplotlib", "cmake", "setuptools"}


def test_what_compiles_is_the_version_that_serves() -> None:
    assert read_lock(BUILDING)["numpy"].version == read_lock(SERVING)["numpy"].version


@pytest.mark.parametrize("lock", MACHINES, ids=lambda lock: lock.stem)
def test_the_command_that_made_a_lock_is_documented(lock: Path) -> None:
    command = command_of(lock)
    architecture, glibc = MACHINES[lock]
    platform = f"--python-platform {architecture}-manylinux_{glibc.major}_{glibc.minor}"
    for flag in ("--python-version 3.11", platform, "--generate-hashes"):
        assert flag in command
    documented = re.sub(r"\s*\\\n\s*", " ", (ROOT / "docs" / "install-jetson.md").read_text())
    assert command in documented


@pytest.mark.slow
@pytest.mark.parametrize("lock", MACHINES, ids=lambda lock: lock.stem)
def test_the_lock_downloads_for_its_machine_and_asks_for_no_newer_glibc(lock: Path, tmp_path: Path) -> None:
    packages = {name: package for name, package in read_lock(lock).items() if name != COMPILED}
    architecture, glibc = MACHINES[lock]
    download(packages, tmp_path, architecture, glibc)
    wheels = sorted(tmp_path.glob("*.whl"))
    assert len(wheels) == len(packages) == len(list(tmp_path.iterdir())) - 1
    needed = {wheel.name: newest_glibc(wheel) for wheel in wheels}
    assert any(needed.values())
    assert not {name: str(version) for name, version in needed.items() if version and version > glibc}
    sizes = {wheel: sum(entry.file_size for entry in zipfile.ZipFile(wheel).infolist()) for wheel in wheels}
    print(f"\n{lock.name}: {len(wheels)} wheels")
    print(f"{sum(wheel.stat().st_size for wheel in wheels) / 1e6:.1f} MB, unpacked {sum(sizes.values()) / 1e6:.1f} MB")
    for wheel in sorted(wheels, key=sizes.__getitem__, reverse=True)[:6]:
        print(f"{sizes[wheel] / 1e6:8.1f} MB  {wheel.name}")


def download(packages: dict[str, Locked], folder: Path, architecture: str, glibc: Version) -> None:
    """Fetch the wheels with pip, which checks their hashes."""
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(package.line for package in packages.values()))
    # To pip a platform is one tag; to a machine every glibc older than its own is good too.
    kinds = ["manylinux1", "manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, glibc.minor + 1))]
    tags = [f"{kind}_{architecture}" for kind in kinds]
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
