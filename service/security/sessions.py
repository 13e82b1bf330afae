"""People's sessions: a signed cookie that stands for a key, kept by the browser alone.

It names the key and what its stored hash looks like, so that it ends with the key; the service keeps nothing but the
secret that signs, so that sessions outlive its restarts.
"""

import hashlib
import hmac
import logging
import secrets
from pathlib import Path

from fastapi import Response
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.types import Scope

from engines.files import write_atomic
from service.errors import KeyFileError
from service.security.keyring import Keyring
from service.security.keys import Key

COOKIE = "unispect-session"
SECONDS = 12 * 3600
FILE = "session.secret"
_SECRET_BYTES = 32
_OTHERS_MAY = 0o077
_MOST_CHARACTERS = 512
_log = logging.getLogger(__name__)


class Sessions:
    """Used on the event loop.

    Args:
        folder: the service's data folder, where the secret is kept, readable by its owner alone.
        keyring: knows the keys in use.
    """

    def __init__(self, folder: Path, keyring: Keyring) -> None:
        self._path = folder / FILE
        self._keyring = keyring
        self._signing: URLSafeTimedSerializer | None = None

    def begin(self, response: Response, scope: Scope, key: Key) -> None:
        """Give the browser a session of a key, as an answer's cookie.

        Raises KeyFileError where no secret can be kept.
        """
        response.set_cookie(
            COOKIE,
            self._serializer().dumps([key.id, _fingerprint(key)]),
            max_age=SECONDS,
            path="/",
            secure=scope["scheme"] == "https",
            httponly=True,
            samesite="strict",
        )

    def end(self, response: Response, scope: Scope) -> None:
        """Let the browser forget its session."""
        response.delete_cookie(COOKIE, "/", secure=scope["scheme"] == "https", httponly=True, samesite="strict")

    def key_of(self, scope: Scope) -> Key | None:
        """The key of a request's session; None without one, and where it is altered, too old, or its key revoked."""
        cookie = HTTPConnection(scope).cookies.get(COOKIE)
        if cookie is None or len(cookie) > _MOST_CHARACTERS:
            return None
        try:
            id_, fingerprint = self._serializer().loads(cookie, max_age=SECONDS)
        except BadData:
            return None
        except KeyFileError as error:
            _log.error("No session counts: %s", error)
            return None
        key = self._keyring.by_id(id_)
        return key if key is not None and hmac.compare_digest(_fingerprint(key), fingerprint) else None

    def _serializer(self) -> URLSafeTimedSerializer:
        if self._signing is None:
            try:
                secret = self._secret()
            except OSError as error:
                raise KeyFileError(
                    f"{self._path} cannot be used ({error.strerror}); mend its owner or mode."
                ) from error
            kwargs = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
            self._signing = URLSafeTimedSerializer(secret, salt="unispect.session", signer_kwargs=kwargs)
        return self._signing

    def _secret(self) -> bytes:
        try:
            secret = self._path.read_bytes()
            if len(secret) >= _SECRET_BYTES and not self._path.stat().st_mode & _OTHERS_MAY:
                return secret
            _log.warning("%s is cut off, or others may read it: it is made anew, and who is signed in is not.", FILE)
        except FileNotFoundError:
            pass
        secret = secrets.token_bytes(_SECRET_BYTES)
        write_atomic(self._path, secret, mode=0o600)
        return secret


def _fingerprint(key: Key) -> str:
    return hashlib.sha256(f"{key.salt}{key.hash}".encode()).hexdigest()[:32]
