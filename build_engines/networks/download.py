"""Downloads that resume, are checked by digest, and are kept."""

import os
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from build_engines.errors import WeightsError
from engines.files import replace_synced, sha256_of

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0


def cache_folder() -> Path:
    """UNISPECT_CACHE_DIR, else XDG_CACHE_HOME/unispect, else ~/.cache/unispect."""
    if own := os.environ.get("UNISPECT_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "unispect"


def fetch(url: str, sha256_prefix: str) -> Path:
    """The file behind `url`, from the cache or downloaded; a part left by an interrupted download is continued.

    Raises:
        WeightsError: the server cannot be reached, or what came has another digest (it is deleted).
    """
    target = cache_folder() / url.rsplit("/", 1)[-1]
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(url, part)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"{url} cannot be downloaded ({reason}); fetch it elsewhere and give it as --teacher-weights FILE, "
            "or use --teacher-weights procedural."
        ) from error
    digest = sha256_of(part)
    if not digest.startswith(sha256_prefix):
        part.unlink()
        raise WeightsError(f"{url} has the SHA-256 {digest[:8]}… and should begin with {sha256_prefix}; try again.")
    replace_synced(part, target)
    return target


def _download(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - https only
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == 416:  # The part is the whole file already.
            return
        raise
    with response:
        resumed = response.status == 206
        total = int(response.headers.get("Content-Length", 0)) + (have if resumed else 0)
        columns = (TextColumn(part.stem), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with part.open("ab" if resumed else "wb") as file, Progress(*columns) as progress:
            task = progress.add_task("", total=total or None, completed=have if resumed else 0)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))
    if part.stat().st_size < total:
        raise ConnectionError(
            f"the connection ended after {part.stat().st_size} of {total} bytes; call again to continue"
        )
