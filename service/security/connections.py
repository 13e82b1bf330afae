"""What a connection may cost before a request of it is answered: bytes and time of its headers, and idle company.

uvicorn with httptools bounds neither: a client that sends its headers a byte a minute, or one header without an end,
keeps a connection and memory for as long as it likes.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.exchange import open_exchange
from service.ids import new_id
from service.problems import HEADERS_TOO_LARGE, HEADERS_TOO_SLOW, MALFORMED, Kind, problem_response
from service.security.headers import add_security_headers

# Long enough for a client to read why it was refused, while what it still sends is thrown away.
_LINGER_SECONDS = 5.0
# Requests that wait for the answer to the one before; uvicorn takes as many as come.
_MOST_PIPELINED = 16
_log = logging.getLogger("service.requests")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of each connection.

    Attributes:
        header_bytes: from a request's first byte to its last header's.
        headers: of one request.
        header_seconds: from the connection's start, or a later request's first byte, to its last header's.
        stalled_seconds: in which a client takes nothing of what is sent to it.
        connections: that are open at a time.
    """

    header_bytes: int
    headers: int
    header_seconds: float
    stalled_seconds: float
    connections: int


class BoundedConnection(HttpToolsProtocol):
    """One connection of a client. What it refuses never reaches the application.

    Args:
        limits: its bounds.
        count_refused: told the slug and the status of each problem that it answers.
        of_uvicorn: what uvicorn gives to its protocol.
    """

    def __init__(
        self, *, limits: ConnectionLimits, count_refused: Callable[[str, int], None], **of_uvicorn: Any
    ) -> None:
        super().__init__(**of_uvicorn)
        self._limits = limits
        self._count_refused = count_refused
        self._active: RequestResponseCycle | None = None
        self._in_body = False
        self._too_many = False
        self._heads = 0
        self._head_bytes = 0
        self._framing = 0
        self._idle_since = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer(self._limits.header_seconds, self._head_is_late)
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        room = self._limits.header_bytes - self._head_bytes
        if not self._in_body and len(data) > room:
            # Exact where it matters: what follows the headers in the same read is no part of them.
            view, heads = memoryview(data), self._heads
            self._feed(view[:room])
            if self._heads == heads and not self.transport.is_closing():
                self._refuse(HEADERS_TOO_LARGE, f"The headers are above {self._limits.header_bytes} bytes; send fewer.")
            if self.transport.is_closing():
                return
            data = view[room:]  # type: ignore[assignment]
        self._feed(data)
        if not self.transport.is_closing():
            self._watch()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come after the body; nobody here reads them.
        if self._in_body:
            return
        if len(self.headers) >= self._limits.headers:
            self._too_many = True
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_body = True
        self._heads += 1
        self._framing = 0
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise ValueError("too many requests before an answer")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # Doubled: the framing may be as much as the body.
        self._framing -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self._in_body:
            self._start_timer(_LINGER_SECONDS, self.transport.close)
        elif self._head_bytes and not self._answering:
            self._start_timer(self._limits.header_seconds, self._head_is_late)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._limits.stalled_seconds, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def send_400_response(self, msg: str) -> None:
        if self._too_many:
            self._refuse(HEADERS_TOO_LARGE, f"There are more than {self._limits.headers} headers; send fewer.")
        else:
            self._refuse(MALFORMED, "The request is not valid HTTP/1.1; mend the client.")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes | memoryview) -> None:
        # Before: a body may end in these very data.
        heads, in_body = self._heads, self._in_body
        super().data_received(data)  # type: ignore[arg-type]
        if self._heads != heads:
            return
        if in_body:
            self._framing += len(data)
            if self._framing > self._limits.header_bytes and not self.transport.is_closing():
                self._refuse(MALFORMED, "The body has more framing than content; send larger chunks and no trailers.")
        else:
            self._head_bytes += len(data)

    def _watch(self) -> None:
        """Time what is awaited of the client now, where nothing does already."""
        if self._in_body or self._answering:
            return
        if self._head_bytes:
            if self._timer is None:
                self._start_timer(self._limits.header_seconds, self._head_is_late)
        elif self.timeout_keep_alive_task is None:
            # The rest of a body that was refused has come: uvicorn's own timer was stopped by it.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _head_is_late(self) -> None:
        self._timer = None
        if not self._head_bytes:
            self.transport.close()
            return
        seconds = self._limits.header_seconds
        self._refuse(HEADERS_TOO_SLOW, f"The headers were not complete after {seconds:g} s; send them at once.")

    def _make_room(self) -> None:
        """Close the connection that has idled longest; where all are being answered, this one."""
        others = (one for one in self.connections if isinstance(one, BoundedConnection) and one is not self)
        idle = [one for one in others if not one._answering]
        longest = min(idle, key=lambda one: one._idle_since, default=self)
        self.connections.discard(longest)
        longest._abort()

    def _refuse(self, kind: Kind, detail: str) -> None:
        """Answer instead of the application, and close."""
        if self._answering:
            # An answer here would come into the midst of the application's.
            self._abort()
            return
        id_ = new_id()
        self.transport.write(_problem(id_, kind, detail))
        self.transport.close()
        self._count_refused(kind.slug, kind.status)
        fields = {
            "request_id": id_,
            "address": self.client and self.client[0],
            "status": kind.status,
            "outcome": kind.slug,
            "detail": detail,
        }
        _log.info("request", extra={"fields": fields})

    def _abort(self) -> None:
        if self._active is not None:
            # The application learns of it before it writes again, which would be an error.
            self._active.disconnected = True
        self.transport.abort()

    def _start_timer(self, seconds: float, act: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _problem(request_id: str, kind: Kind, detail: str) -> bytes:
    scope: dict[str, Any] = {}
    open_exchange(scope, request_id)
    response = problem_response(scope, kind, detail, {"Connection": "close", "X-Request-ID": request_id})
    start: dict[str, Any] = {"headers": response.raw_headers}
    add_security_headers(start)
    head = b"".join(name + b": " + value + b"\r\n" for name, value in start["headers"])
    return STATUS_LINE[kind.status] + head + b"\r\n" + bytes(response.body)
