"""Asks the service on this machine how it is: the container's HEALTHCHECK.

Docker restarts a container whose process ends, and leaves one alone that is merely unhealthy. So where the service
says by /livez that only a restart helps, as after the loss of the device, the probe can end it.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

_TIMEOUT_SECONDS = 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what /readyz answers. Returns 0 where the service is ready, else 1."""
    parser = argparse.ArgumentParser(prog="python -m service.probe", description=__doc__)
    parser.add_argument("--port", type=int, default=int(os.environ.get("UNISPECT_PORT", "8000")))
    parser.add_argument("--end", type=int, metavar="PID", help="process to stop by SIGTERM where only a restart helps")
    options = parser.parse_args(arguments)
    try:
        if options.end is not None and _get(options.port, "/livez")[0] == HTTPStatus.SERVICE_UNAVAILABLE:
            os.kill(options.end, signal.SIGTERM)
        status, body = _get(options.port, "/readyz")
    except (OSError, HTTPException) as error:
        print(f"Nothing answers on port {options.port} ({error}).")
        return 1
    print(body)
    return 0 if status == HTTPStatus.OK else 1


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
