"""Who asks, and whether he may: the first thing that is decided of a request, before anything of its body is read."""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ComeAgain, Forbidden, Unauthenticated
from service.exchange import Exchange, exchange_of
from service.problems import error_response
from service.security.audit import audit
from service.security.keyring import Keyring
from service.security.origin import require_known_host, require_own_page
from service.security.quotas import Quotas
from service.security.roles import Role, needed_role
from service.security.sessions import Sessions
from service.security.verifier import Verifier

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE = 'Bearer realm="unispect"'


class Authentication:
    """Lets a request through whose key has the role that its path needs, and writes down what admins do.

    A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`, or as the session that a browser began with it.
    Where no key was ever made, the service listens on loopback alone, and everybody on the machine may do all; only
    pages of other origins are kept out.

    Args:
        quotas: of each client; None where there are none.
    """

    def __init__(
        self, app: ASGIApp, keyring: Keyring, verifier: Verifier, sessions: Sessions, quotas: Quotas | None
    ) -> None:
        self._app = app
        self._keyring, self._verifier, self._sessions = keyring, verifier, sessions
        self._quotas = quotas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (role := needed_role(scope["method"], scope["path"])) is None:
            await self._app(scope, receive, send)
        elif role is Role.ADMIN and scope["method"] not in _READING:
            await self._audited(scope, receive, send, role)
        else:
            await self._answer(scope, receive, send, role)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, role: Role) -> None:
        exchange = exchange_of(scope)
        try:
            if self._keyring.needed:
                await self._authenticate(scope, exchange, role)
            else:
                require_known_host(scope)
            # A page has many pictures: a person who looks at it sends none.
            if self._quotas is not None and not (exchange.session and scope["method"] in _READING):
                self._quotas.charge(exchange.client)
        except Unauthenticated as error:
            response = error_response(scope, error)
            response.headers["WWW-Authenticate"] = _CHALLENGE
            await response(scope, receive, send)
        except (Forbidden, ComeAgain) as error:
            await error_response(scope, error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _authenticate(self, scope: Scope, exchange: Exchange, role: Role) -> None:
        presented = _presented(scope)
        if presented is not None:
            key = await self._verifier.verify(presented, exchange.address)
        elif (session := self._sessions.key_of(scope)) is not None:
            key, exchange.session = session, True
        else:
            raise Unauthenticated("This needs a key; send one as Authorization: Bearer KEY or as X-API-Key.")
        exchange.client, exchange.role = key.name, key.role
        if exchange.session and scope["method"] not in _READING:
            require_own_page(scope)
        if not key.role.covers(role):
            raise Forbidden(f"The key {key.name} has the role {key.role}, and this needs {role}; use another key.")

    async def _audited(self, scope: Scope, receive: Receive, send: Send, role: Role) -> None:
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, note_status, role)
        finally:
            exchange = exchange_of(scope)
            # Strangers' attempts are in the log of requests: they could fill this one.
            if status != HTTPStatus.UNAUTHORIZED:
                audit(
                    "An act of an admin.",
                    request_id=exchange.request_id,
                    client=exchange.client,
                    address=exchange.address,
                    method=scope["method"][:16],
                    path=scope["path"][:200],
                    status=status,
                    outcome=exchange.outcome,
                )


def _presented(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value.decode("latin-1").strip())
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return str(key.strip())
    return None
