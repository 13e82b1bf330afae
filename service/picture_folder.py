"""The pictures and anomaly maps of inspections, as files.

A picture is `pictures/ab/HASH.EXTENSION` after the SHA-256 of its file, which begins with `ab`: sent twice, it is kept
once. A map is `maps/ab/ID.png` after its inspection's id, which ends with `ab`: 16-bit grey, its scale in the PNG's
text chunk (`engines.heatmap.encode_map`). A file's time is the last time it was offered or reviewed.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.files import write_atomic
from engines.heatmap import encode_map
from engines.images import read_header

# What a crash left half written is no longer being written after this many seconds.
_ABANDONED_SECONDS = 3600.0
# Sweeping makes this share of the quota free, or the next picture would call for the next sweep.
_HEADROOM = 0.1
# What is kept has been inspected, so its size was allowed.
KEPT_MAX_PIXELS = 2**31
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp", "TIFF": "tif"}
_MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "webp": "image/webp", "tif": "image/tiff"}


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """The bytes of the file that was sent, and what they are."""

    data: bytes
    media_type: str


class PictureFolder:
    """The files below one folder. Thread-safe.

    Args:
        root: where `pictures` and `maps` are made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pictures, self._maps = root / "pictures", root / "maps"

    def add_picture(self, sha256: str, data: bytes) -> int:
        """Keep a picture that was inspected. Returns the bytes that were added, 0 where it is here already.

        Raises OSError where it cannot be written.
        """
        if self.touch_picture(sha256):
            return 0
        write_atomic(self._picture(sha256, _extension(data)), data)
        return len(data)

    def add_map(self, inspection_id: str, anomaly_map: NDArray[np.float32]) -> int:
        """Keep a map float32 [h, w]. Returns the bytes that were added. Raises OSError where it cannot be written."""
        png, _ = encode_map(anomaly_map)
        write_atomic(self._map(inspection_id), png)
        return len(png)

    def read_picture(self, sha256: str) -> KeptPicture | None:
        """A picture; None where it is not kept."""
        for extension, media_type in _MEDIA_TYPES.items():
            try:
                return KeptPicture(self._picture(sha256, extension).read_bytes(), media_type)
            except FileNotFoundError:
                continue
        return None

    def read_map(self, inspection_id: str) -> bytes | None:
        """A map's PNG; None where it is not kept."""
        try:
            return self._map(inspection_id).read_bytes()
        except FileNotFoundError:
            return None

    def has_picture(self, sha256: str) -> bool:
        """Whether a picture is kept."""
        return any(self._picture(sha256, extension).is_file() for extension in _MEDIA_TYPES)

    def has_map(self, inspection_id: str) -> bool:
        """Whether a map is kept."""
        return self._map(inspection_id).is_file()

    def touch_picture(self, sha256: str) -> bool:
        """Let a picture count as new, so that it is kept for longer. Returns whether it is kept."""
        return any(_touch(self._picture(sha256, extension)) for extension in _MEDIA_TYPES)

    def touch_map(self, inspection_id: str) -> bool:
        """Let a map count as new, so that it is kept for longer. Returns whether it is kept."""
        return _touch(self._map(inspection_id))

    def sweep(self, quota_bytes: int, keep_seconds: float) -> int:
        """Delete what is older than `keep_seconds`, and the oldest of the rest where all is above the quota.

        Returns the bytes that are left.
        """
        now = time.time()
        # Few numbers a file: there may be hundreds of thousands.
        files = sorted((stat.st_mtime, stat.st_size, path) for path, stat in self._files(now))
        total = sum(size for _, size, _ in files)
        goal = quota_bytes * (1.0 - _HEADROOM) if total > quota_bytes else total
        for changed, size, path in files:
            if changed >= now - keep_seconds and total <= goal:
                break
            _unlink(path)
            total -= size
        return total

    def _files(self, now: float) -> Iterator[tuple[str, os.stat_result]]:
        for folder in (self._pictures, self._maps):
            for entry in _entries(folder):
                for file in _entries(entry.path):
                    try:
                        stat = file.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if not file.name.startswith("."):
                        yield file.path, stat
                    elif stat.st_mtime < now - _ABANDONED_SECONDS:
                        _unlink(file.path)

    def _picture(self, sha256: str, extension: str) -> Path:
        return self._pictures / sha256[:2] / f"{sha256}.{extension}"

    def _map(self, inspection_id: str) -> Path:
        # The first digits of an id are the time: all of a year would be in one folder.
        return self._maps / inspection_id[-2:] / f"{inspection_id}.png"


def describe_picture(data: bytes) -> KeptPicture:
    """A picture that was inspected, and what it is."""
    return KeptPicture(data, _MEDIA_TYPES[_extension(data)])


def _extension(data: bytes) -> str:
    # JPEGs of phones that hold a second picture call themselves MPO.
    return _EXTENSIONS.get(read_header(data, KEPT_MAX_PIXELS).format, "jpg")


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _touch(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)
