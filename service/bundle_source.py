"""Where the archive of the bundle to serve lies: on an object store, a web server or a disk, read through fsspec."""

import hashlib
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from service.errors import FetchFailed, StartError

T = TypeVar("T")
_SCHEMES = ("s3", "https", "http", "file")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CONNECT_SECONDS, _SILENCE_SECONDS = 10, 30
# A server that drips keeps no start waiting for longer.
_MOST_SECONDS = 1800.0
_LOG_SECONDS = 10.0
_CHUNK = 2**20
# What tells one content of an address from the next, as web servers, object stores and disks name it.
_VERSIONS = ("ETag", "Last-Modified", "LastModified", "mtime")
_WORDS = {"ClientPayloadError": "it was cut off", "ServerDisconnectedError": "the server hung up"}
# What these tell of at the level debug are addresses and signatures.
_TALKATIVE = ("fsspec", "s3fs", "aiobotocore", "botocore")
_log = logging.getLogger(__name__)


class Source:
    """An archive's address. It is shown without user, password and query, which may be secrets.

    Args:
        url: as s3://bucket/key, https://host/path or file:///folder/file; http:// of this machine, too.
        signed: only bundles of trusted keys are taken, so that http:// of other machines will do as well.

    Raises:
        StartError: no such address, or the extra fleet is not installed.
    """

    def __init__(self, url: str, signed: bool) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        self._url, self._scheme, self._signed = url, parts.scheme, signed
        host = parts.netloc.rpartition("@")[2]
        self._shown = f"{parts.scheme}://{host}{parts.path}"
        if self._scheme not in _SCHEMES or not parts.path.strip("/") or bool(host) == (self._scheme == "file"):
            raise StartError(
                "The setting bundle_url is no address of an archive; give one as s3://bucket/key, https://host/path or "
                "file:///folder/file."
            )
        if self._may_be_changed(url):
            raise StartError(f"Anybody on the way could change {self}; give https://, or trusted_keys.")
        if self._scheme == "file":
            self._url = url2pathname(parts.path)
        self._files = _file_system(self._scheme)
        self._size: int | None = None

    def __str__(self) -> str:
        return self._shown

    @property
    def id(self) -> str:
        """64 hexadecimal digits of this address, from which nobody gets its secrets."""
        return hashlib.sha256(self._url.encode()).hexdigest()

    def version(self) -> str | None:
        """What changes when the archive does, asked without reading it; None where nobody says.

        Raises:
            FetchFailed: nothing answers in time, or there is nothing.
        """
        info = self._ask(lambda: self._files.info(self._url))
        if info.get("type") == "directory":
            raise FetchFailed("it is a folder; give the address of a bundle's folder as a ZIP file.")
        if self._may_be_changed(info.get("url", "")):
            raise FetchFailed("it sends us on to http://, where anybody could change it; give trusted_keys.")
        self._size = info.get("size")
        found = next((str(info[name]) for name in _VERSIONS if info.get(name)), None)
        return None if found is None else f"{found} of {self._size} bytes"

    def download(self, target: Path, max_bytes: int) -> str:
        """Write the archive to `target`. Returns its SHA-256.

        Args:
            max_bytes: that it may have, counted as they arrive, whatever the server declares.

        Raises:
            FetchFailed: it cannot be read, has too many bytes, or takes too long.
            OSError: the disk is full.
        """
        if (self._size or 0) > max_bytes:
            raise FetchFailed(_too_large(max_bytes))
        began = logged = monotonic()
        digest, size = hashlib.sha256(), 0
        _log.info("Fetching the bundle from %s.", self)
        with target.open("wb") as file, self._ask(self._open) as remote:
            while chunk := self._ask(lambda: remote.read(_CHUNK)):
                size += len(chunk)
                if size > max_bytes:
                    raise FetchFailed(_too_large(max_bytes))
                digest.update(chunk)
                file.write(chunk)
                now = monotonic()
                if now - began > _MOST_SECONDS:
                    raise FetchFailed(f"it has not arrived within {_MOST_SECONDS:.0f} s; bring it nearer.")
                if now - logged > _LOG_SECONDS:
                    logged = now
                    of = f" of {self._size / 1e6:.1f}" if self._size else ""
                    _log.info("Fetched %.1f%s MB in %.0f s.", size / 1e6, of, now - began)
        _log.info("Fetched %.1f MB in %.1f s.", size / 1e6, monotonic() - began)
        return digest.hexdigest()

    def _may_be_changed(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme == "http" and not self._signed and parts.hostname not in _LOOPBACK

    def _open(self) -> Any:
        # A web server is asked once, and not for one range after the other: no two contents can get mixed.
        whole = {"block_size": 0, "size": self._size} if self._scheme.startswith("http") else {"block_size": _CHUNK}
        return self._files.open(self._url, "rb", **whole)

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except Exception as error:  # each file system has its own kinds
            raise FetchFailed(f"{self._reason(error)}.") from error

    def _reason(self, error: BaseException) -> str:
        """What is wrong and how to mend it, without an address of the web, whose query may be a secret."""
        if self._scheme.startswith("http") and isinstance(error, FileNotFoundError) and error.__cause__ is not None:
            # Whatever went wrong with a question to a web server, fsspec calls it so.
            error = error.__cause__
        if (certificate := getattr(error, "certificate_error", None)) is not None:
            why = getattr(certificate, "verify_message", "") or type(certificate).__name__
            return f"the server's certificate is refused ({why}); set SSL_CERT_FILE to that of its authority"
        return f"{self._what(error)}; check the address, the network, and who may read there"

    def _what(self, error: BaseException) -> str:
        kind = type(error).__name__
        if (status := getattr(error, "status", None)) is not None:
            return f"the server answers {status}"
        if isinstance(error, TimeoutError):
            return "nothing answers in time"
        if isinstance(error, FileNotFoundError):
            return "there is nothing"
        if self._scheme == "s3":
            return next(iter(str(error).splitlines()), kind).rstrip(".")
        return _WORDS.get(kind) or getattr(error, "strerror", None) or kind


def _too_large(max_bytes: int) -> str:
    return f"it has more than {max_bytes} bytes; make a smaller bundle or raise max_bundle_bytes."


def _file_system(scheme: str) -> Any:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        options: dict[str, Any] = {}
        if scheme == "s3":
            options = {
                "config_kwargs": {
                    "connect_timeout": _CONNECT_SECONDS,
                    "read_timeout": _SILENCE_SECONDS,
                    "retries": {"max_attempts": 1},
                },
                "use_listings_cache": False,
            }
        elif scheme in ("https", "http"):
            timeout = import_module("aiohttp").ClientTimeout(
                total=None, connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS
            )
            # From the environment come a proxy, and who is known to which host (~/.netrc).
            options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
        return import_module("fsspec").filesystem(scheme, skip_instance_cache=True, **options)
    except ImportError as error:
        raise StartError(
            f"To fetch a bundle from {scheme}:// needs a package that is not installed ({error}); "
            "install it with pip install 'unispect[fleet]'."
        ) from error
