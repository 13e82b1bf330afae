"""Unpacks an uploaded bundle. The archive is hostile: nothing leaves the target, nothing grows beyond the limit."""

import zipfile
from pathlib import Path, PurePosixPath

from engines.bundle import MANIFEST, is_name
from service.errors import InvalidArchive

_MOST_FILES = 16
_CHUNK = 2**20
_MODE_BITS = 16
_KIND_MASK, _REGULAR, _FOLDER = 0o170000, 0o100000, 0o040000


def unpack(archive: Path, target: Path, max_bytes: int) -> None:
    """Unpack a ZIP file of one bundle's files, bare or in one folder, into the empty folder `target`.

    Args:
        max_bytes: that all files together may have, counted as they are unpacked, whatever the archive declares.

    Raises:
        InvalidArchive: no ZIP file, a broken or encrypted one, one with links, folders or names that leave the target,
            with too many files or bytes, or without a manifest.
        OSError: the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = _names(opened.infolist())
            left = max_bytes
            for entry, name in names.items():
                left -= _extract(opened, entry, target / name, left, max_bytes)
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        UnicodeError,
    ) as error:
        raise InvalidArchive(f"The archive cannot be read ({error}); send a bundle's folder as a ZIP file.") from error


def _names(entries: list[zipfile.ZipInfo]) -> dict[zipfile.ZipInfo, str]:
    """The files' names, without the one folder that they may be in."""
    files = [entry for entry in entries if not entry.is_dir()]
    if len(files) > _MOST_FILES:
        raise InvalidArchive(f"The archive has {len(files)} files and a bundle no more than {_MOST_FILES}.")
    names: dict[zipfile.ZipInfo, str] = {}
    folders = set()
    for entry in files:
        kind = (entry.external_attr >> _MODE_BITS) & _KIND_MASK
        parts = PurePosixPath(entry.filename).parts
        if kind not in (0, _REGULAR) or not 1 <= len(parts) <= 2 or not all(is_name(part) for part in parts):
            raise InvalidArchive(
                f"The archive's entry {entry.filename[:100]!r} is no plain file of a bundle; send the files of a "
                "bundle's folder alone."
            )
        folders.add(parts[:-1])
        names[entry] = parts[-1]
    if len(folders) > 1 or len(set(names.values())) != len(names):
        raise InvalidArchive("The archive's files are in several folders; send the files of one bundle's folder alone.")
    if MANIFEST not in names.values():
        raise InvalidArchive(f"The archive has no {MANIFEST}; send a bundle's folder as a ZIP file.")
    return names


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int, max_bytes: int) -> int:
    size = 0
    with opened.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > left:
                raise InvalidArchive(
                    f"The archive's files are above {max_bytes} bytes; send a smaller bundle or raise max_bundle_bytes."
                )
            file.write(chunk)
    return size
