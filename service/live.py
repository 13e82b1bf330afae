"""Tells all who listen of each inspection once it is committed; who cannot keep up is dropped, and may come again."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice

from service.errors import TooManyReaders
from service.ledger.records import InspectionRecord

_MOST_READERS = 32
_MOST_WAITING = 256
# Who comes back after no more inspections than this is told from memory what was missed.
_RECENT = 1024


class Reader:
    """One who listens; made by `Live.join`.

    Attributes:
        missed: the inspections published since the one that was named on joining, oldest first; None where that is too
            long ago to know.
    """

    def __init__(self, missed: list[InspectionRecord] | None) -> None:
        self.missed = missed
        # None is the end.
        self._waiting: asyncio.Queue[InspectionRecord | None] = asyncio.Queue()
        self._ended = False

    def put(self, record: InspectionRecord) -> bool:
        """Add a record. Returns False where too many wait: then none comes after those."""
        if self._waiting.qsize() >= _MOST_WAITING:
            self.end()
        elif not self._ended:
            self._waiting.put_nowait(record)
        return not self._ended

    def end(self) -> None:
        """Let `records` end after what waits."""
        if not self._ended:
            self._ended = True
            self._waiting.put_nowait(None)

    def waiting(self) -> list[InspectionRecord]:
        """What has come and was not given by `records` yet; it gives what comes after those."""
        found: list[InspectionRecord] = []
        while not self._waiting.empty():
            record = self._waiting.get_nowait()
            if record is None:
                self._waiting.put_nowait(None)
                break
            found.append(record)
        return found

    async def records(self, idle_seconds: float) -> AsyncIterator[InspectionRecord | None]:
        """Each record as it comes, and None whenever none has come for `idle_seconds`."""
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    record = await self._waiting.get()
            except TimeoutError:
                yield None
                continue
            if record is None:
                return
            yield record


class Live:
    """The readers of one service. Used on the event loop."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()
        self._recent: deque[InspectionRecord] = deque(maxlen=_RECENT)
        self._closed = False

    def publish(self, record: InspectionRecord) -> None:
        """Tell all readers of a committed inspection. Takes microseconds, whatever the readers do."""
        self._recent.append(record)
        self._readers = {reader for reader in self._readers if reader.put(record)}

    def join(self, last_seen: str | None = None) -> Reader:
        """A new reader.

        Args:
            last_seen: the id of the last inspection that it was told of, as a browser gives it after an interruption.

        Raises:
            TooManyReaders: there are 32.
        """
        if len(self._readers) >= _MOST_READERS:
            raise TooManyReaders(f"{_MOST_READERS} programs listen to the inspections already; end one and try again.")
        reader = Reader([] if last_seen is None else self._since(last_seen))
        self._readers.add(reader)
        if self._closed:
            self.leave(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Tell a reader nothing more."""
        self._readers.discard(reader)
        reader.end()

    def close(self) -> None:
        """End all readers, now and to come: a stopping service waits for its connections."""
        self._closed = True
        for reader in set(self._readers):
            self.leave(reader)

    def _since(self, inspection_id: str) -> list[InspectionRecord] | None:
        # In the order in which they were published, in which ids of one moment may be mixed up.
        for index, record in enumerate(reversed(self._recent)):
            if record.id == inspection_id:
                return list(islice(self._recent, len(self._recent) - index, None))
        return None
