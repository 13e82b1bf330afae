"""What happens to every request, in pure ASGI: an id, one log line, one count, a bounded body, no stray traceback."""

import asyncio
import logging
import re
from collections.abc import Mapping
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge, BodyTooSlow
from service.exchange import Exchange, open_exchange
from service.ids import new_id
from service.metrics import Metrics
from service.problems import error_response, internal_error_response
from service.security.headers import add_security_headers
from service.trace_context import TRACEPARENT, trace_context

# Asked every few seconds by machines: their lines, and their counts, would bury the others.
QUIET_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/v2/health/live", "/v2/health/ready"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_log = logging.getLogger("service.requests")


class RequestRecords:
    """Gives each request an id, and notes in log and metrics how it ended. The outermost middleware.

    The client's X-Request-ID is kept if it has 1 to 128 of the characters A-Z a-z 0-9 . _ - and begins with a letter
    or digit, else replaced.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        exchange = open_exchange(scope, _request_id(scope))
        exchange.trace = trace_context(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                add_security_headers(message)
                message["headers"].append((b"x-request-id", exchange.request_id.encode()))
                if exchange.trace is not None:
                    message["headers"].append((TRACEPARENT.encode(), exchange.trace.traceparent.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            exchange.outcome = "client-gone"
        except asyncio.CancelledError:
            exchange.outcome = "cancelled"
            raise
        except Exception:
            _log.exception("A request failed.", extra={"fields": {"request_id": exchange.request_id}})
            if status:
                raise
            await internal_error_response(scope)(scope, receive, send_with_headers)
        finally:
            self._record(scope, exchange, status, perf_counter() - start)

    def _record(self, scope: Scope, exchange: Exchange, status: int, seconds: float) -> None:
        if scope["path"] in QUIET_PATHS:
            return
        self._metrics.count_request(_api(scope), exchange.outcome, status)
        if not _log.isEnabledFor(logging.INFO):
            return
        fields = {
            "request_id": exchange.request_id,
            "client": exchange.client,
            "address": exchange.address,
            "method": scope["method"][:16],
            "path": scope["path"][:200],
            "status": status,
            "outcome": exchange.outcome,
            "milliseconds": round(seconds * 1000, 3),
        }
        if exchange.detail is not None:
            fields["detail"] = exchange.detail
        if exchange.trace is not None:
            fields |= {"trace_id": exchange.trace.trace_id, "span_id": exchange.trace.span_id}
        _log.info("request", extra={"fields": fields})


class BodyLimit:
    """Refuses bodies that are too large, at once where the length is declared, and those that come too slowly.

    Args:
        max_bytes: of a body.
        max_seconds: from the first look at it until it is complete.
        larger: bytes of a body for the paths that take more; they have proportionally more time.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_seconds: float, larger: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._larger.get(scope["path"], self._max_bytes)
        declared = _header(scope, b"content-length")
        if declared is not None and int(declared) > max_bytes:
            await error_response(scope, _too_large(max_bytes))(scope, receive, send)
            return
        body = _Body(receive, self._max_seconds * max(1.0, max_bytes / self._max_bytes))

        async def receive_limited() -> Message:
            message = await body.receive()
            if body.received > max_bytes:
                raise _too_large(max_bytes)
            return message

        async def send_closing(message: Message) -> None:
            if body.late and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive_limited, send_closing)


class _Body:
    """A body that arrives: how many bytes of it there are, and whether it is late."""

    def __init__(self, receive: Receive, max_seconds: float) -> None:
        self._receive = receive
        self._max_seconds = max_seconds
        self._deadline: float | None = None
        self._complete = False
        self.received = 0
        self.late = False

    async def receive(self) -> Message:
        # Whoever listens for the client's leaving does so for as long as he likes.
        if self._complete:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._max_seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.late = True
            raise BodyTooSlow(
                f"The body was not complete after {self._max_seconds:g} s; send it faster or raise body_seconds."
            ) from None
        self.received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        return message


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is above {max_bytes} bytes; send a smaller file or raise the limit.")


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _api(scope: Scope) -> str:
    """The tag of the request's route, in lower case; pages have none, mounted files no route but an endpoint."""
    if (route := scope.get("route")) is not None:
        tags = getattr(route, "tags", None)
        return str(tags[0]).lower().replace(" ", "-") if tags else "pages"
    return "files" if "endpoint" in scope else "unmatched"


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else new_id()
