"""What happens to every request, in pure ASGI: an id, one log line, one count, a bounded body, no stray traceback."""

import asyncio
import logging
import re
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge
from service.exchange import Exchange, open_exchange
from service.ids import new_id
from service.metrics import Metrics
from service.problems import error_response, internal_error_response

# Asked every few seconds by machines: their lines would bury the others.
QUIET_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
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
        common_headers = [
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *common_headers]
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
        self._metrics.count_request(_route_template(scope), exchange.outcome)
        if scope["path"] in QUIET_PATHS or not _log.isEnabledFor(logging.INFO):
            return
        fields = {
            "request_id": exchange.request_id,
            "client": scope["client"][0] if scope.get("client") else None,
            "method": scope["method"][:16],
            "path": scope["path"][:200],
            "status": status,
            "outcome": exchange.outcome,
            "milliseconds": round(seconds * 1000, 3),
        }
        if exchange.detail is not None:
            fields["detail"] = exchange.detail
        _log.info("request", extra={"fields": fields})


class BodyLimit:
    """Refuses bodies of more than `max_bytes`: at once where the length is declared, while reading where it is not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _header(scope, b"content-length")
        if declared is None:
            await self._app(scope, self._counting(receive), send)
        elif int(declared) > self._max_bytes:
            await error_response(scope, self._too_large())(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _counting(self, receive: Receive) -> Receive:
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large()
            return message

        return receive_counted

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"The request body is above {self._max_bytes} bytes; send a smaller file or raise max_body_bytes."
        )


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _route_template(scope: Scope) -> str:
    if (route := scope.get("route")) is not None:
        return str(route.path)
    # Mounted files leave no route, only an endpoint.
    return "files" if "endpoint" in scope else "unmatched"


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else new_id()
