"""Fetches the bundle to serve from its address, and keeps it: a start without the network serves what was fetched last.

An archive is in the folder once it is verified, under its SHA-256, and counts once `fetched.json` names it; so nothing
that is cut off is ever taken for a bundle.
"""

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from engines import signatures
from engines.bundle import Bundle, Digest
from engines.errors import BundleError
from engines.files import folder_atomic, write_atomic
from engines.signatures import TrustedKeys
from service.archives import unpack
from service.bundle_source import Source
from service.errors import FetchFailed, InvalidArchive

_RECORD = "fetched.json"
# With those before, so that going back to them needs no network either.
_MOST_KEPT = 3
_log = logging.getLogger(__name__)


class _Fetched(BaseModel):
    """One archive.

    Attributes:
        source: `Source.id` of its address.
        version: what that said of the archive, as `Source.version` gives it.
        sha256: of the archive; its bundle's folder is called so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Digest
    version: str | None
    sha256: Digest


class _Record(BaseModel):
    """`fetched.json`: what was fetched last of each address, the newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    fetched: tuple[_Fetched, ...] = ()


class FetchedBundles:
    """A folder of the bundles that were fetched last. For one process.

    Args:
        folder: made when it is first written to.
        max_bytes: of an archive, and of what is in it.
        trusted: whose signatures count; None takes bundles unsigned.
    """

    def __init__(self, folder: Path, max_bytes: int, trusted: TrustedKeys | None) -> None:
        self._folder, self._max_bytes, self._trusted = folder, max_bytes, trusted

    def fetch(self, source: Source) -> Bundle:
        """The verified bundle at an address; the one that was fetched from there last where it has not changed, and
        where what is there now cannot be had or cannot be used.

        Raises:
            FetchFailed: neither is there.
        """
        last = next((one for one in self._read().fetched if one.source == source.id), None)
        try:
            version = source.version()
            if last is None or version is None or version != last.version or (bundle := self._open(last)) is None:
                bundle = self._download(source, version)
        except (FetchFailed, InvalidArchive, BundleError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            sentence = f"The bundle at {source} cannot be taken: {reason}"
            if last is None or (bundle := self._open(last)) is None:
                raise FetchFailed(sentence) from error
            _log.error("What was fetched last serves. %s", sentence)
        return bundle

    def _open(self, fetched: _Fetched) -> Bundle | None:
        try:
            return signatures.load(self._folder / fetched.sha256, self._trusted)
        except BundleError as error:
            _log.error("The bundle that was fetched last cannot be used: %s", error)
            return None

    def _download(self, source: Source, version: str | None) -> Bundle:
        self._folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._folder, prefix=".fetch.") as name:
            archive = Path(name) / "archive"
            sha256 = source.download(archive, self._max_bytes)
            target = self._folder / sha256
            with folder_atomic(target) as scratch:
                unpack(archive, scratch, self._max_bytes)
                bundle = signatures.load(scratch, self._trusted)
        self._keep(_Fetched(source=source.id, version=version, sha256=sha256))
        return bundle.model_copy(update={"folder": target})

    def _keep(self, newest: _Fetched) -> None:
        others = [one for one in self._read().fetched if one.source != newest.source]
        record = _Record(fetched=(newest, *others)[:_MOST_KEPT])
        write_atomic(self._folder / _RECORD, (record.model_dump_json(indent=1) + "\n").encode())
        named = {one.sha256 for one in record.fetched}
        for path in self._folder.iterdir():
            if path.is_dir() and path.name not in named:
                shutil.rmtree(path, ignore_errors=True)

    def _read(self) -> _Record:
        try:
            return _Record.model_validate_json((self._folder / _RECORD).read_bytes())
        except FileNotFoundError:
            return _Record()
        except (OSError, ValidationError) as error:
            _log.error("%s cannot be read, and the bundle is fetched anew: %s", self._folder / _RECORD, error)
            return _Record()
