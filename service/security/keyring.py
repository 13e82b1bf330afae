"""The keys of a running service: looked up without a hash once they were seen, and read again when they change."""

import asyncio
import hashlib
import logging
import os
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

from service.errors import KeyFileError, StartError
from service.security.audit import audit
from service.security.keys import Key, KeyFile, split
from service.settings import PROGRAM

_LOOK_AGAIN_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Keyring:
    """The keys in use, for one event loop.

    Args:
        folder: the service's data folder.

    Raises:
        KeyFileError: the file of the keys cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._file = KeyFile(folder)
        # Who reads this process's tables learns no key, and who times a look-up learns no digest.
        self._pepper = os.urandom(32)
        self._seen: dict[bytes, Key] = {}
        self._checking: dict[bytes, asyncio.Task[Key | None]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._state, self._looked = self._stat(), monotonic()
        self._keep(self._file.read())

    @property
    def needed(self) -> bool:
        """Whether a key was ever made: from then on nothing opens without one, also where all are revoked."""
        self._look()
        return self._ever

    def seen(self, presented: str) -> Key | None:
        """The key, where it was looked at before; costs microseconds."""
        self._look()
        return self._seen.get(self._digest(presented))

    def by_id(self, id_: str) -> Key | None:
        """The key in use with this id."""
        self._look()
        return self._keys.get(id_)

    def looking_at(self, presented: str) -> bool:
        """Whether the same key is being looked at now, for another request."""
        return self._digest(presented) in self._checking

    async def look_at(self, presented: str) -> Key | None:
        """The key that a client presents; None where it opens nothing. One hash, in a thread, at a time."""
        digest = self._digest(presented)
        if (task := self._checking.get(digest)) is None:
            task = self._checking[digest] = asyncio.get_running_loop().create_task(self._check(presented, digest))
            task.add_done_callback(lambda _: self._checking.pop(digest))
        return await asyncio.shield(task)

    async def _check(self, presented: str, digest: bytes) -> Key | None:
        parts = split(presented)
        # Ids are no secret: that an unknown one is refused sooner tells nothing.
        if parts is None or (key := self._keys.get(parts[0])) is None:
            return None
        async with self._one_at_a_time:
            opened = await asyncio.to_thread(key.opens_with, parts[1])
        if not opened or self._keys.get(key.id) != key:
            return None
        self._seen[digest] = key
        return key

    def require_for(self, host: str) -> None:
        """Raises StartError where a service that listens on `host` could be reached by others, and has no key."""
        if self._keys or (not self._ever and _is_loopback(host)):
            return
        how = f"make one with {PROGRAM} keys create NAME --role admin"
        if self._ever and _is_loopback(host):
            _log.warning("All keys are revoked, so that nothing opens; %s.", how)
            return
        raise StartError(f"There is no key in use, and {host or 'every address'} can be reached by others; {how}.")

    def _look(self) -> None:
        """Read the file again where it changed, a second after the last look at the earliest."""
        now = monotonic()
        if now - self._looked < _LOOK_AGAIN_SECONDS:
            return
        self._looked = now
        if (state := self._stat()) == self._state:
            return
        self._state = state
        try:
            keys = self._file.read()
        except KeyFileError as error:
            _log.error("The keys stay as they were: %s", error)
            return
        if self._ever and not keys:
            _log.error("The keys stay as they were: %s is gone or empty; restore it.", self._file.path)
            return
        before = self._keys
        self._keep(keys)
        for key in before.values():
            if key.id not in self._keys:
                audit("A key was revoked.", name=key.name, role=key.role)
        for key in self._keys.values():
            if key.id not in before:
                audit("A key was made.", name=key.name, role=key.role)

    def _keep(self, keys: list[Key]) -> None:
        self._ever = bool(keys)
        self._keys = {key.id: key for key in keys if key.revoked is None}
        self._seen = {digest: key for digest, key in self._seen.items() if self._keys.get(key.id) == key}

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            stat = self._file.path.stat()
        except OSError:
            return None
        return stat.st_ctime_ns, stat.st_size, stat.st_ino

    def _digest(self, presented: str) -> bytes:
        return hashlib.blake2b(presented.encode(), key=self._pepper, digest_size=16).digest()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
