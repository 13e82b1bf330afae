"""Looks at the keys that are presented, and cuts off who guesses."""

from service.errors import TooManyAttempts, Unauthenticated
from service.security.buckets import Buckets, neighbourhood
from service.security.keyring import Keyring
from service.security.keys import Key

_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE = 1 / 6, 20


class Verifier:
    """Used on one event loop. Wrong keys are counted together, whichever way they come."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._attempts = Buckets(_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE)

    async def verify(self, presented: str, address: str) -> Key:
        """The key that a client at an address presents; microseconds where it was seen before.

        Raises:
            Unauthenticated: it opens nothing.
            TooManyAttempts: so did too many from there.
        """
        return self._keyring.seen(presented) or await self._look_at(presented, address)

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
