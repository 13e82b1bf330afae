"""The headers by which a browser keeps a page to itself; every answer has them."""

from starlette.types import Message

_POLICY = b"content-security-policy"
_COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # With no-referrer a browser would call the origin of our own forms null.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
# What is no page loads nothing, whatever a browser takes it for.
_WITH_POLICY = [*_COMMON, (_POLICY, b"default-src 'none'; frame-ancestors 'none'")]


def add_security_headers(start: Message) -> None:
    """Add them to an `http.response.start`; a page's own Content-Security-Policy stays."""
    own_policy = any(name == _POLICY for name, _ in start["headers"])
    start["headers"] = [*start["headers"], *(_COMMON if own_policy else _WITH_POLICY)]
