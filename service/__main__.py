"""Starts the service: `inspection-service` or `python -m service`."""

import logging
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from engines.errors import UnispectError
from service.app import create_app
from service.errors import StartError
from service.inspector import Inspector
from service.logs import json_logs
from service.settings import PROGRAM, Settings, read_settings

_BACKLOG = 2048
# Above the minute that many clients keep a connection, so that the client closes it and no request meets a closed one.
_KEEP_ALIVE_SECONDS = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 2 with one sentence on standard error."""
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
        app = create_app(settings)
        listener = _listen(settings)
    except UnispectError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        app,
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
    with json_logs(settings.log_level), listener:
        host, port = listener.getsockname()[:2]
        logging.getLogger("service").info("Listening on http://%s:%d.", f"[{host}]" if ":" in host else host, port)
        _Server(config, app.state.context.inspector).run(sockets=[listener])
    return 0


class _Server(uvicorn.Server):
    """Not ready from the first signal on; and a signal that was obeyed is a success, not a death by that signal."""

    def __init__(self, config: uvicorn.Config, inspector: Inspector) -> None:
        super().__init__(config)
        self._inspector = inspector

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._inspector.drain()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


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
