"""What is noted of one request while it is answered: its id, its outcome, and why it was refused."""

from dataclasses import dataclass, field
from time import perf_counter

from starlette.types import Scope

from service.security.roles import Role
from service.trace_context import TraceContext

_KEY = "unispect.exchange"


@dataclass(slots=True)
class Exchange:
    """`outcome` is `ok` or the slug of a problem; `detail` is the problem's sentence.

    Attributes:
        address: where the request came from.
        began: by `perf_counter`.
        client: who asks: the name of the key, or the address where there is none.
        role: of that key.
        session: whether a person's browser gave that key as the session that it began.
        trace: its place in a trace, where it has one.
    """

    request_id: str
    address: str
    client: str
    role: Role | None = None
    session: bool = False
    trace: TraceContext | None = None
    outcome: str = "ok"
    detail: str | None = None
    began: float = field(default_factory=perf_counter)


def open_exchange(scope: Scope, request_id: str) -> Exchange:
    """Note a new request in its ASGI scope."""
    address = str(scope["client"][0]) if scope.get("client") else "unknown"
    exchange = scope[_KEY] = Exchange(request_id, address, address)
    return exchange


def exchange_of(scope: Scope) -> Exchange:
    """The exchange noted in an ASGI scope."""
    exchange: Exchange = scope[_KEY]
    return exchange
