"""Files that are either whole or absent: written to a temporary name, fsynced, renamed."""

import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Of <fcntl.h> and <linux/fs.h>.
_HERE, _EXCHANGE = -100, 2


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Args:
        mode: permissions of the file.

    Raises OSError where the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(mode)
        replace_synced(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def replace_synced(scratch: Path, target: Path) -> None:
    """Rename a finished file over `target`, in the same folder, once its content is on the disk."""
    _sync(scratch)
    scratch.replace(target)
    _sync_folder(target.parent)


@contextmanager
def folder_atomic(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, and vanishes when it does not.

    An existing `target` is replaced, in one step where the file system can; else it is moved aside first. It is
    deleted only after the new one is in place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    scratch.chmod(0o755)
    old = scratch.with_name(scratch.name + ".old")
    try:
        yield scratch
        for file in scratch.rglob("*"):
            if file.is_file():
                _sync(file)
        _sync_folder(scratch)
        if target.exists() and _exchanged(scratch, target):
            scratch.replace(old)
        else:
            if target.exists():
                target.replace(old)
            scratch.replace(target)
        _sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not target.exists():
            old.replace(target)
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths swap what they name, as Linux's renameat2 does; False where kernel or file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
