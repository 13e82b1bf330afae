"""The service's client for Python, blocking and async: typed answers, kept connections, retries that inspect once."""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, Unpack
from urllib.parse import urlsplit

import httpx

from service.answers import BatchAnswer, EngineAnswer, InspectionAnswer
from service.client_calls import (
    ENGINE,
    Answer,
    Asked,
    AskedOfAll,
    Attempts,
    Call,
    ClientError,
    Picture,
    batch_call,
    inspect_call,
    review_call,
)

# Below the time after which the service closes an idle connection, so that no request meets a closed one.
_KEEP_ALIVE_SECONDS = 60.0

Http = TypeVar("Http")


class _Session(Generic[Http]):
    _open: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        verify: ssl.SSLContext | bool = True,
        timeout: float = 30.0,
        attempts: int = 6,
        most_wait: float = 30.0,
        connections: int = 16,
    ) -> None:
        """
        Args:
            url: of the service, as http://127.0.0.1:8000.
            key: an API key, where the service wants one.
            verify: which certificates are trusted, and the client's own where the service wants one.
            timeout: seconds without a byte from the service.
            attempts: of each request, the first one included.
            most_wait: longest time in seconds that the service may ask to wait before another attempt.
            connections: open at a time.

        Raises:
            ClientError: `url` is none.
        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise ClientError(f"{url[:200]!r} is no address of a service; give one like http://127.0.0.1:8000.")
        self._attempts, self._most_wait = attempts, most_wait
        self._http: Http = self._open(
            base_url=url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            verify=verify,
            timeout=timeout,
            limits=httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=_KEEP_ALIVE_SECONDS,
            ),
        )

    def _attempts_at(self, call: Call[Any]) -> Attempts:
        return Attempts(call, self._attempts, self._most_wait)


class Client(_Session[httpx.Client]):
    """Any number of threads may share one. A context manager.

    What asks the service raises Refused where it says no, and Unreachable where no answer comes after as many attempts
    as make sense.
    """

    _open = httpx.Client

    def inspect(self, image: bytes, **asked: Unpack[Asked]) -> InspectionAnswer:
        """Inspect one image, given as a file's bytes."""
        return self._send(inspect_call(image, **asked))

    def inspect_batch(self, pictures: Sequence[Picture], **asked: Unpack[AskedOfAll]) -> BatchAnswer:
        """Inspect several images in one request; outcomes in their order, errors for each."""
        return self._send(batch_call(pictures, **asked))

    def review(self, inspection_id: str, label: Literal["ok", "defect"], note: str | None = None) -> None:
        """Say what a part really was."""
        self._send(review_call(inspection_id, label, note))

    def engine(self) -> EngineAnswer:
        """The engine that is served."""
        return self._send(ENGINE)

    def is_ready(self) -> bool:
        """Whether images may come; asked once."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[Answer]) -> Answer:
        attempts = self._attempts_at(call)
        while True:
            try:
                response = self._http.request(call.method, call.path, **call.options)
            except httpx.TransportError as error:
                pause: float | None = attempts.after_error(error)
            else:
                pause = attempts.after(response)
            if pause is None:
                return call.read(response)
            time.sleep(pause)


class AsyncClient(_Session[httpx.AsyncClient]):
    """`Client` for asyncio: any number of tasks may share one."""

    _open = httpx.AsyncClient

    async def inspect(self, image: bytes, **asked: Unpack[Asked]) -> InspectionAnswer:
        """As `Client.inspect`."""
        return await self._send(inspect_call(image, **asked))

    async def inspect_batch(self, pictures: Sequence[Picture], **asked: Unpack[AskedOfAll]) -> BatchAnswer:
        """As `Client.inspect_batch`."""
        return await self._send(batch_call(pictures, **asked))

    async def review(self, inspection_id: str, label: Literal["ok", "defect"], note: str | None = None) -> None:
        """As `Client.review`."""
        await self._send(review_call(inspection_id, label, note))

    async def engine(self) -> EngineAnswer:
        """As `Client.engine`."""
        return await self._send(ENGINE)

    async def is_ready(self) -> bool:
        """As `Client.is_ready`."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[Answer]) -> Answer:
        attempts = self._attempts_at(call)
        while True:
            try:
                response = await self._http.request(call.method, call.path, **call.options)
            except httpx.TransportError as error:
                pause: float | None = attempts.after_error(error)
            else:
                pause = attempts.after(response)
            if pause is None:
                return call.read(response)
            await asyncio.sleep(pause)
