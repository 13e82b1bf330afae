"""Asks the service on this machine how it is: the container's HEALTHCHECK.

Docker restarts a container whose process ends, and leaves one alone that is merely unhealthy. So where the service
says by /livez that only a restart helps, as after the loss of the device, the probe can end it.
"""

import argparse
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_TIMEOUT_SECONDS = 4.0
_FILES = {
    "tls-certificate": "the service's own certificate, where it has one",
    "probe-certificate": "what the probe shows to a service that asks clients for certificates",
    "probe-key": "its key; not needed where that is beside it",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what /readyz answers. Returns 0 where the service is ready, else 1."""
    parser = argparse.ArgumentParser(prog="python -m service.probe", description=__doc__)
    parser.add_argument("--port", type=int, default=int(os.environ.get("UNISPECT_PORT", "8000")))
    parser.add_argument("--end", type=int, metavar="PID", help="process to stop by SIGTERM where only a restart helps")
    for name, meaning in _FILES.items():
        parser.add_argument(f"--{name}", metavar="FILE", default=os.environ.get(_variable(name)), help=meaning)
    options = parser.parse_args(arguments)
    try:
        tls = _context(options) if options.tls_certificate else None
        if options.end is not None and _get(options.port, tls, "/livez")[0] == HTTPStatus.SERVICE_UNAVAILABLE:
            os.kill(options.end, signal.SIGTERM)
        status, body = _get(options.port, tls, "/readyz")
    except (OSError, HTTPException) as error:
        print(f"Nothing answers on port {options.port} ({error}).")
        return 1
    print(body)
    return 0 if status == HTTPStatus.OK else 1


def _variable(name: str) -> str:
    return f"UNISPECT_{name.upper().replace('-', '_')}"


def _context(options: argparse.Namespace) -> ssl.SSLContext:
    """Trusts the service's own certificate alone, whatever name is in it: it is no name that is asked here."""
    context = ssl.create_default_context(cafile=options.tls_certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if options.probe_certificate:
        context.load_cert_chain(options.probe_certificate, options.probe_key)
    return context


def _get(port: int, tls: ssl.SSLContext | None, path: str) -> tuple[int, str]:
    connection = (
        HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS, context=tls)
        if tls
        else HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
