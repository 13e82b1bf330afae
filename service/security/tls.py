"""HTTPS by certificate files, and clients that show certificates of their own."""

import ssl
from pathlib import Path
from typing import NoReturn

from service.errors import StartError
from service.settings import Settings


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
    certificate, key = settings.tls_certificate, settings.tls_key or settings.tls_certificate
    for path in (certificate, key):
        _require_file(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise StartError(f"{certificate} and {key} are no certificate and its unencrypted key in PEM.") from error
    if settings.tls_client_ca is not None:
        _require_file(settings.tls_client_ca)
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except ssl.SSLError as error:
            raise StartError(f"{settings.tls_client_ca} holds no certificate in PEM.") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _require_file(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise StartError(f"{path} cannot be read ({error.strerror}); mend the setting or the file's mode.") from error


def _no_password() -> NoReturn:
    # Otherwise OpenSSL asks for it on the terminal, and the start waits.
    raise ValueError("the key is encrypted")
