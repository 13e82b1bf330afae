"""What is noted of one request while it is answered: its id, its outcome, and why it was refused."""

from dataclasses import dataclass

from starlette.types import Scope

_KEY = "unispect.exchange"


@dataclass(slots=True)
class Exchange:
    """`outcome` is `ok` or the slug of a problem; `detail` is the problem's sentence."""

    request_id: str
    outcome: str = "ok"
    detail: str | None = None


def open_exchange(scope: Scope, request_id: str) -> Exchange:
    """Note a new request in its ASGI scope."""
    exchange = scope[_KEY] = Exchange(request_id)
    return exchange


def exchange_of(scope: Scope) -> Exchange:
    """The exchange noted in an ASGI scope."""
    exchange: Exchange = scope[_KEY]
    return exchange
