"""Starts the service: `inspection-service` or `python -m service`."""

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from types import FrameType
from typing import cast

import uvicorn

from engines.errors import UnispectError
from service.app import create_app
from service.context import Context
from service.errors import StartError
from service.logs import json_logs
from service.metrics import Metrics
from service.security.connections import BoundedConnection, ConnectionLimits
from service.security.tls import Renewal, server_context
from service.settings import PROGRAM, Settings, read_settings

# The module whose `main` takes the arguments that follow; what serves imports none of them.
COMMANDS = {"keys": "service.security.keys_command", "post": "service.posting"}
_BACKLOG = 2048
# Above the minute that many clients keep a connection, so that the client closes it and no request meets a closed one.
_KEEP_ALIVE_SECONDS = 75
_RENEWAL_SECONDS = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or do what the first argument names.

    Returns the exit code: 0, or 2 with one sentence on standard error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        return _command(*arguments)
    try:
        settings = read_settings(arguments)
        with json_logs(settings.log_level):
            _serve(settings)
    except UnispectError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(settings: Settings) -> None:
    tls = server_context(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=_bounded_connection(settings, app.state.context.metrics),
        ssl_context_factory=(lambda *_: tls) if tls else None,
        callback_notify=_renewal(tls, settings),
        timeout_notify=_RENEWAL_SECONDS,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    with _listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        logging.getLogger("service").info(
            "Listening on %s://%s:%d.", "https" if tls else "http", f"[{host}]" if ":" in host else host, port
        )
        _Server(config, app.state.context).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Not ready from the first signal on; and a signal that was obeyed is a success, not a death by that signal."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._context.drain()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def _renewal(tls: ssl.SSLContext | None, settings: Settings) -> Callable[[], Awaitable[None]] | None:
    if tls is None or settings.tls_certificate is None:
        return None
    return Renewal(tls, settings.tls_certificate, settings.tls_key or settings.tls_certificate).check


def _bounded_connection(settings: Settings, metrics: Metrics) -> type[asyncio.Protocol]:
    limits = ConnectionLimits(
        header_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        header_seconds=settings.header_seconds,
        stalled_seconds=settings.body_seconds,
        connections=settings.max_connections,
    )
    make = partial(BoundedConnection, limits=limits, count_refused=partial(metrics.count_request, "unmatched"))
    # What uvicorn does with the class is to call it.
    return cast(type[asyncio.Protocol], make)


def _command(name: str, *arguments: str) -> int:
    try:
        module = import_module(COMMANDS[name])
    except ModuleNotFoundError as error:
        print(f"{PROGRAM} {name}: {error.name} is not installed; install unispect[client].", file=sys.stderr)
        return 2
    return int(module.main(arguments))


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        reason = str(error.strerror).partition(" (while")[0]
        raise StartError(f"Cannot listen on {where} ({reason}); choose others with --host and --port.") from error


if __name__ == "__main__":
    sys.exit(main())
