"""How long a client still waits for its answer, as it says so in a header."""

from time import perf_counter

from starlette.requests import Request

from service.context import context_of
from service.errors import InvalidHeader
from service.exchange import exchange_of

HEADER = "X-Unispect-Deadline-Ms"
_MOST_MS = 600_000


def remaining_seconds(request: Request) -> float:
    """Seconds from now to the deadline by the header, or by the service's settings; below 0 when it has passed.

    Raises InvalidHeader where the header is not 1 to 600000.
    """
    elapsed = perf_counter() - exchange_of(request.scope).began
    text = request.headers.get(HEADER)
    if text is None:
        return context_of(request).inspector.admission.deadline_seconds - elapsed
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= _MOST_MS):
        raise InvalidHeader(
            f"The header {HEADER} is {text[:32]!r}; it takes a whole number of milliseconds from 1 to {_MOST_MS}."
        )
    return int(text) / 1000 - elapsed
