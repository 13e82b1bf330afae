"""How many images a second one client may send."""

from service.errors import QuotaExceeded
from service.security.buckets import Buckets


class Quotas:
    """Of every client the same. Used on the event loop.

    Args:
        per_second: requests, and images of a batch; a second's worth of them may come at once.
    """

    def __init__(self, per_second: float) -> None:
        self._buckets = Buckets(per_second, max(1.0, per_second))
        self._per_second = per_second

    def charge(self, client: str) -> None:
        """Count a request. Raises QuotaExceeded where the client had as many as it may have."""
        if wait := self._buckets.take(client):
            raise QuotaExceeded(
                f"The client {client} may ask {self._per_second:g} times a second; come again in {wait:.1f} s.", wait
            )

    def charge_more(self, client: str, images: int) -> None:
        """Count the images of a request beyond its first; a client over its quota waits after them."""
        self._buckets.add(client, -images)
