"""Token buckets by name, with a bounded memory: how often each client may do something."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic

# Whose bucket is full again when it is forgotten: he who floods with many names gains what one name gives.
_MOST_NAMES = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class Buckets:
    """One bucket a name. Used on one thread.

    Args:
        per_second: tokens that flow into each.
        burst: tokens that each holds, at least 1.
        clock: in seconds; for tests.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> float:
        """Take one token. Returns 0, or the seconds until there is one where there is none."""
        bucket = self._of(name)
        if bucket.tokens < 1.0:
            return (1.0 - bucket.tokens) / self._per_second
        bucket.tokens -= 1.0
        return 0.0

    def add(self, name: str, tokens: float) -> None:
        """Put tokens back; a negative number is a debt, which is paid before the next token is taken."""
        bucket = self._of(name)
        bucket.tokens = min(self._burst, bucket.tokens + tokens)

    def _of(self, name: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._burst, now)
            if len(self._buckets) > _MOST_NAMES:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(name)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled) * self._per_second)
        bucket.filled = now
        return bucket


def neighbourhood(address: str) -> str:
    """What counts as one client of those without a name: an IPv4 address, or the 64 bits of an IPv6 network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return address
