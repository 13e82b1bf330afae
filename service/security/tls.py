"""HTTPS by certificate files, and clients that show certificates of their own."""

import logging
import ssl
from pathlib import Path
from typing import NoReturn

from service.errors import StartError
from service.settings import Settings

_log = logging.getLogger("service")


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """How connections are encrypted: TLS 1.2 or newer; None where no certificate is set.

    Raises:
        StartError: a file cannot be read, holds something else, or is set without the certificate.
    """
    if settings.tls_certificate is None:
        for name in ("tls_key", "tls_client_ca"):
            if getattr(settings, name) is not None:
                raise StartError(f"The setting {name} is given without tls_certificate; give that one too.")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, settings.tls_certificate, settings.tls_key or settings.tls_certificate)
    if settings.tls_client_ca is not None:
        _require_file(settings.tls_client_ca)
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except ssl.SSLError as error:
            raise StartError(f"{settings.tls_client_ca} holds no certificate in PEM.") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Renewal:
    """Takes a certificate that was renewed into the context that serves, for the connections from then on.

    What does not fit together, as while one of two files is written, is left, and the one before goes on.

    Args:
        context: of `server_context`.
        certificate, key: PEM files, which may be one.
    """

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self._context, self._files = context, (certificate, key)
        self._known = self._stamps()

    async def check(self) -> None:
        """Look whether the files are others than at the last call."""
        found = self._stamps()
        if found == self._known or found is None:
            return
        self._known = found
        try:
            # A pair that does not fit would leave half of it in the context.
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *self._files)
            _load(self._context, *self._files)
        except StartError as error:
            _log.error("The certificate was not renewed: %s", error)
        else:
            _log.info("The certificate %s was renewed.", self._files[0])

    def _stamps(self) -> list[tuple[int, int, int]] | None:
        try:
            found = [path.stat() for path in self._files]
        except OSError:
            return None
        return [(one.st_ino, one.st_mtime_ns, one.st_size) for one in found]


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for path in (certificate, key):
        _require_file(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise StartError(f"{certificate} and {key} are no certificate and its unencrypted key in PEM.") from error


def _require_file(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise StartError(f"{path} cannot be read ({error.strerror}); mend the setting or the file's mode.") from error


def _no_password() -> NoReturn:
    # Otherwise OpenSSL asks for it on the terminal, and the start waits.
    raise ValueError("the key is encrypted")
