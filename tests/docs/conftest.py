"""What the pages may be given."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.shell import Shell, give_lookout, give_pictures, give_repository, give_reviews
from tests.service.running import free_port


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """In an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    with Shell(folder, tmp_path / "variables") as opened:
        yield opened


@pytest.fixture
def give(shell: Shell, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Put something into the shell's folder. What takes long to make is made when a page first asks for it."""

    def copy(fixture: str, target: str) -> None:
        shutil.copytree(request.getfixturevalue(fixture), shell.folder / target)

    gifts: dict[str, Callable[[], None]] = {
        "DATA": lambda: copy("parts_folder", "DATA"),
        "run": lambda: copy("run_folder", "run"),
        "bundles/parts": lambda: copy("bundle_folder", "bundles/parts"),
        "pictures": lambda: give_pictures(shell.folder, request.getfixturevalue("parts_folder")),
        "lookout": lambda: give_lookout(shell.folder, request.getfixturevalue("parts_folder")),
        "service": lambda: shell.serve("bundles/parts"),
        "reviews": lambda: give_reviews(shell.url, request.getfixturevalue("parts_folder")),
        "repository": lambda: give_repository(shell.folder),
        "demo": lambda: copy("demo_folder", "demo"),
    }

    def give_one(name: str) -> None:
        assert name in gifts, f"{name!r} is not one of {', '.join(gifts)}"
        gifts[name]()

    return give_one


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make demo` leaves. Takes minutes."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    program = [sys.executable, "-m", "build_engines.demo"]
    subprocess.run([*program, "--folder", str(folder), "--port", str(free_port()), "--once"], check=True)
    return folder
