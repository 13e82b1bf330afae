"""Files and folders are whole or absent."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from engines import files
from engines.files import folder_atomic, sha256_of, write_atomic


class Interrupted(BaseException):
    """Stands for Ctrl-C and other exceptions that are no Exception."""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_write_atomic_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == {"file.bin"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_write_that_fails_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.bin"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"file.bin"}


def test_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    with folder_atomic(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "model").write_text("m")
        assert not target.exists()
    assert (target / "sub" / "model").read_text() == "m"
    assert names(target.parent) == {"bundle"}
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Interrupted])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), folder_atomic(tmp_path / "bundle") as folder:
        (folder / "model").write_text("half")
        raise error
    assert names(tmp_path) == set()


def test_an_exception_keeps_the_folder_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with folder_atomic(target) as folder:
        (folder / "model").write_text("old")
    with pytest.raises(Interrupted), folder_atomic(target) as folder:
        (folder / "model").write_text("new")
        raise Interrupted
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == {"bundle"}


def test_a_folder_that_was_there_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for name in ("first", "second"):
        with folder_atomic(target) as folder:
            (folder / name).write_text(name)
    assert names(target) == {"second"}
    assert names(tmp_path) == {"bundle"}


def test_a_folder_is_there_at_every_moment_while_it_is_replaced(tmp_path: Path) -> None:
    """A process that is killed then leaves the old one or the new one."""
    target = tmp_path / "bundle"
    done = Event()

    def look() -> list[str]:
        seen = []
        while not done.is_set():
            seen.append((target / "model").read_text())
        return seen

    with folder_atomic(target) as folder:
        (folder / "model").write_text("0")
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            for number in range(300):
                with folder_atomic(target) as folder:
                    (folder / "model").write_text(str(number))
        finally:
            done.set()
        assert set(looking.result()) <= set(map(str, range(300)))
    assert names(tmp_path) == {"bundle"}


def test_a_folder_is_replaced_where_two_cannot_be_swapped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    test_a_folder_that_was_there_is_replaced_as_a_whole(tmp_path)


def test_a_rename_that_fails_keeps_the_folder_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    target = tmp_path / "bundle"
    with folder_atomic(target) as folder:
        (folder / "model").write_text("old")
    replace = files.os.replace

    def fail_into_target(source: Path, destination: Path) -> None:
        # The old folder may be moved back: only the new one meets the fault.
        if Path(destination) == target and (Path(source) / "model").read_text() == "new":
            raise OSError("device gone")
        replace(source, destination)

    monkeypatch.setattr(files.os, "replace", fail_into_target)
    with pytest.raises(OSError, match="device gone"), folder_atomic(target) as folder:
        (folder / "model").write_text("new")
    assert (target / "model").read_text() == "old"


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"part")
    assert sha256_of(path) == hashlib.sha256(b"part").hexdigest()
