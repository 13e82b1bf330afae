"""Who asks, and whether he may: the first thing that is decided of a request, before anything of its body is read."""

from http import HTTPStatus
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ComeAgain, Forbidden, TooManyAttempts, Unauthenticated
from service.exchange import Exchange, exchange_of
from service.problems import error_response
from service.security.audit import audit
from service.security.buckets import Buckets, neighbourhood
from service.security.keyring import Keyring
from service.security.keys import Key
from service.security.quotas import Quotas
from service.security.roles import Role, needed_role

_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE = 1 / 6, 20
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE = 'Bearer realm="unispect"'


class Authentication:
    """Lets a request through whose key has the role that its path needs, and writes down what admins do.

    A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Where no key was ever made, the service listens on
    loopback alone, and everybody on the machine may do all; only pages of other origins are kept out.

    Args:
        quotas: of each client; None where there are none.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, quotas: Quotas | None) -> None:
        self._app = app
        self._keyring = keyring
        self._quotas = quotas
        self._attempts = Buckets(_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE)

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
                _require_own_origin(scope)
            if self._quotas is not None:
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
        if presented is None:
            raise Unauthenticated("This needs a key; send one as Authorization: Bearer KEY or as X-API-Key.")
        key = self._keyring.seen(presented) or await self._look_at(presented, exchange.address)
        exchange.client = key.name
        if not key.role.covers(role):
            raise Forbidden(f"The key {key.name} has the role {key.role}, and this needs {role}; use another key.")

    async def _look_at(self, presented: str, address: str) -> Key:
        counted = not self._keyring.looking_at(presented)
        neighbours = neighbourhood(address)
        # Paid before the answer is known, so that many attempts at once are no way around.
        if counted and (wait := self._attempts.take(neighbours)):
            raise TooManyAttempts("Too many wrong keys came from your address; come again later.", wait)
        key = await self._keyring.look_at(presented)
        if key is None:
            raise Unauthenticated("The key is unknown or revoked; ask who runs this service for one.")
        if counted:
            self._attempts.add(neighbours, 1)
        return key

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


def _require_own_origin(scope: Scope) -> None:
    """Keep out what a page of another origin asks of a browser on this machine.

    Such a page has a domain's name, either as its own origin, or, after the attacker let that name mean 127.0.0.1, as
    the host that it asks. Raises Forbidden.
    """
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", b"").decode("latin-1")
    if _is_domain(host) or (origin and origin.partition("://")[2] != host):
        raise Forbidden("Without keys the service answers no page of another origin; make a key and send it.")


def _is_domain(host: str) -> bool:
    """Whether a Host header names what can be bought: neither an address nor a name without a dot."""
    before, _, port = host.rpartition(":")
    name = (before if port.isdigit() else host).strip("[]").rstrip(".").lower()
    if "." not in name or name.endswith(".localhost"):
        return False
    try:
        ip_address(name)
    except ValueError:
        return True
    return False
