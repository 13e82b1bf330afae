"""Knows which inspection answered a part's picture lately, so that a client may send it again without harm."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select

from service.ids import first_id_at
from service.ledger.schema import inspections

# About 25 MB of memory; where parts come faster, the window is shorter.
_MOST = 100_000


def key_of(part_id: str, part_class: str | None, image_sha256: str) -> bytes:
    """What two requests must have in common: part, the class that was asked for (None: recognised), and picture."""
    text = "\0".join((image_sha256, part_id, "" if part_class is None else "." + part_class))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Repeats:
    """The latest inspections by what was asked. Used on one event loop, but for `load`.

    Args:
        seconds: how long an inspection is known; 0 means not at all.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # By time: expired ones are at the front.
        self._known: dict[bytes, tuple[str, float]] = {}
        self._running: dict[bytes, asyncio.Event] = {}

    def load(self, connection: Connection) -> None:
        """Learn what a service that ran before has recorded; called before anything else is."""
        columns = inspections.c
        now = time.time()
        newest = (
            select(inspections)
            .where(columns.id >= first_id_at(int((now - self.seconds) * 1e6)), columns.part_id.is_not(None))
            .order_by(columns.id.desc())
            .limit(_MOST)
        )
        # From the clock of the rows to one that nobody sets.
        offset = time.monotonic() - now
        for row in reversed(connection.execute(newest).all()):
            asked = row.part_class if row.part_class_source == "given" else None
            self._remember(key_of(row.part_id, asked, row.image_sha256), row.id, row.time / 1e6 + offset)

    async def find(self, key: bytes) -> str | None:
        """The id of the inspection that answers `key`; waits for one that runs, and None where there is none."""
        while (running := self._running.get(key)) is not None:
            await running.wait()
        self._forget()
        known = self._known.get(key)
        return None if known is None else known[0]

    @contextmanager
    def running(self, key: bytes) -> Iterator[None]:
        """While the block runs, who asks for `key` waits. Enter it without waiting after `find` said None."""
        event = self._running[key] = asyncio.Event()
        try:
            yield
        finally:
            self._running.pop(key, None)
            event.set()

    def remember(self, key: bytes, id_: str) -> None:
        """The inspection `id_` has been committed and answers `key` from now on."""
        self._remember(key, id_, time.monotonic())
        self._forget()

    def _remember(self, key: bytes, id_: str, at: float) -> None:
        self._known.pop(key, None)
        self._known[key] = (id_, at)

    def _forget(self) -> None:
        oldest = time.monotonic() - self.seconds
        while self._known:
            first = next(iter(self._known))
            if len(self._known) <= _MOST and self._known[first][1] >= oldest:
                break
            del self._known[first]
