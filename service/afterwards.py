"""What an answered inspection leaves to be done, done while the event loop would idle: as the next one is inferred.

Done at once it would delay the next request of a client that does not pause.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

# About what decoding takes, after which the engine is busy and the loop is not.
_DELAY_SECONDS = 0.003
_log = logging.getLogger(__name__)

Work = Callable[[], object]


class Afterwards:
    """Used on the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Work] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, work: Work) -> None:
        """Do `work` in a few milliseconds, after what was added before; what it raises is logged."""
        self._waiting.append(work)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY_SECONDS, self.flush)

    def flush(self) -> None:
        """Do now what waits: for whoever reads what comes of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            work = self._waiting.popleft()
            try:
                work()
            except Exception:
                _log.exception("An inspection was answered, and not all is done that belongs to it.")
