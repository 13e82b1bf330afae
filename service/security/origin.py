"""Which requests a page of this service made, and not one of another origin in the same browser."""

from ipaddress import ip_address

from starlette.types import Scope

from service.errors import Forbidden


def require_known_host(scope: Scope) -> None:
    """Keep out what a page of another origin asks of a browser on this machine, where nothing needs a key.

    Such a page has a domain's name, either as its own origin, or, after the attacker let that name mean 127.0.0.1, as
    the host that it asks. Raises Forbidden.
    """
    host, origin = _header(scope, b"host"), _header(scope, b"origin")
    if _is_domain(host) or (origin and origin.partition("://")[2] != host):
        raise Forbidden("Without keys the service answers no page of another origin; make a key and send it.")


def require_own_page(scope: Scope) -> None:
    """Keep out forms and scripts of other origins, which a browser may send with this service's cookie.

    A browser names the origin of whatever posts; a request that does not is none of a page's. Raises Forbidden.
    """
    origin = _header(scope, b"origin").partition("://")[2]
    if (not origin or origin != _header(scope, b"host")) and _header(scope, b"sec-fetch-site") != "same-origin":
        raise Forbidden("This was not sent by a page of this service; open the page here, and do it there.")


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


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
