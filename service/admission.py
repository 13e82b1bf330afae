"""Who may come in: what is accepted is answered in time, and what cannot be is refused before it costs anything."""

import math
from time import perf_counter

from service.errors import QueueFull

# Of the newest interval in the running mean: a change of speed shows after about this many answers.
_SHARE = 1 / 16
# Of the time that there is: estimates are off, and answering takes time too.
_MARGIN = 0.8


class Admission:
    """Counts what is accepted and not yet answered, and learns how fast answers come. Used on the event loop.

    Args:
        max_queue: inspections accepted and not yet answered; beyond it `admit` refuses.
        deadline_seconds: within which an inspection is answered, where a request does not say otherwise.
    """

    def __init__(self, max_queue: int, deadline_seconds: float) -> None:
        self.depth = 0
        self.max_queue = max_queue
        self.deadline_seconds = deadline_seconds
        self._interval = 0.0
        self._last_answer: float | None = None

    @property
    def expected_wait(self) -> float:
        """Seconds that one more inspection takes, as it looks now; 0 where nothing is known."""
        return (self.depth + 1) * self._interval

    def check(self, seconds: float) -> None:
        """Raises QueueFull where an inspection would not be answered within `seconds`."""
        if self.depth >= self.max_queue:
            wait = self.expected_wait
            raise QueueFull(
                f"{self.max_queue} inspections are waiting already; send the image again in {_some(wait)}.", wait
            )
        if self.depth and self.expected_wait > _MARGIN * seconds:
            wait = self.expected_wait
            message = f"The inspection would take {wait:.2f} s and has {seconds:.2f} s"
            raise QueueFull(f"{message}; send the image again in {_some(wait)}.", wait)

    def accepted(self) -> None:
        """Count one more."""
        if self.depth == 0:
            # The pause before it says nothing of how fast answers come.
            self._last_answer = perf_counter()
        self.depth += 1

    def answered(self) -> None:
        """Count one fewer."""
        now = perf_counter()
        if self._last_answer is not None:
            interval = now - self._last_answer
            self._interval += _SHARE * (interval - self._interval) if self._interval else interval
        self._last_answer = now
        self.depth -= 1


def _some(seconds: float) -> str:
    whole = max(1, math.ceil(seconds))
    return "a second" if whole == 1 else f"{whole} seconds"
