"""A client that costs little, for measuring the service: kept connections, bare HTTP, one event loop."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

CHUNK = 65536


@dataclass
class Answers:
    """What came back: seconds and bodies by status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    versions: dict[str, set[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, status: int, seconds: float, body: bytes) -> None:
        """Count one."""
        self.seconds.setdefault(status, []).append(seconds)
        if status == 200:
            answer = json.loads(body)
            self.versions.setdefault(answer["engine"]["version"], set()).add(answer["threshold"])

    @property
    def count(self) -> int:
        """Answers in all."""
        return sum(map(len, self.seconds.values()))


class Connection:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """To the service on this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))

    async def post(
        self, data: bytes, headers: tuple[str, ...] = (), path: str = "/v1/inspections", media_type: str = "image/jpeg"
    ) -> tuple[int, bytes, bool]:
        """Post an image: status, body, and whether the connection may be used again."""
        lines = (
            f"POST {path} HTTP/1.1",
            "Host: localhost",
            f"Content-Type: {media_type}",
            f"Content-Length: {len(data)}",
            *headers,
        )
        self._writer.write("\r\n".join((*lines, "", "")).encode())
        self._writer.write(data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        body = await self._reader.readexactly(length)
        return int(head.split(" ", 2)[1]), body, "connection: close" not in head

    def close(self) -> None:
        """Let go of it."""
        self._writer.close()


class BlockingConnection:
    """The same without an event loop: least of all costs beside what is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, data: bytes) -> bytes:
        """Inspect a JPEG; the answer's body."""
        lines = (
            "POST /v1/inspections HTTP/1.1",
            "Host: localhost",
            "Content-Type: image/jpeg",
            f"Content-Length: {len(data)}",
        )
        self._socket.sendall("\r\n".join((*lines, "", "")).encode() + data)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._socket.recv(65536)
        length = int(answer[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(answer) < end + 4 + length:
            answer += self._socket.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(answer.decode(errors="replace"))
        return answer[end + 4 :]


def in_threads(port: int, data: bytes, clients: int, seconds: float) -> float:
    """Answers a second to clients that each send the next request when they have the answer to the last."""
    until = time.perf_counter() + seconds

    def client() -> int:
        connection, count = BlockingConnection(port), 0
        while time.perf_counter() < until:
            connection.post(data)
            count += 1
        return count

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        counts = [threads.submit(client) for _ in range(clients)]
        total = sum(count.result() for count in counts)
    return total / (time.perf_counter() - began)


async def closed_loop(port: int, data: bytes, clients: int, seconds: float, answers: Answers) -> float:
    """Each of `clients` sends the next request when it has the answer to the last. Returns answers a second."""
    until = time.perf_counter() + seconds

    async def client() -> None:
        connection = await Connection.open(port)
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                status, body, kept = await connection.post(data)
            except (OSError, asyncio.IncompleteReadError) as error:
                answers.failures.append(repr(error))
                kept = False
            else:
                answers.note(status, time.perf_counter() - began, body)
            if not kept:
                connection.close()
                connection = await Connection.open(port)
        connection.close()

    before, began = answers.count, time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return (answers.count - before) / (time.perf_counter() - began)


async def open_loop(
    port: int, data: bytes, rate: float, seconds: float, answers: Answers, headers: tuple[str, ...] = ()
) -> None:
    """Requests at their times, whatever has been answered: as a line does that does not stop."""
    idle: list[Connection] = []

    async def one() -> None:
        began = time.perf_counter()
        connection = idle.pop() if idle else await Connection.open(port)
        try:
            status, body, kept = await connection.post(data, headers)
        except (OSError, asyncio.IncompleteReadError) as error:
            answers.failures.append(repr(error))
            connection.close()
            return
        answers.note(status, time.perf_counter() - began, body)
        if kept:
            idle.append(connection)
        else:
            connection.close()

    async with asyncio.TaskGroup() as tasks:
        async for _ in _ticks(rate, seconds):
            tasks.create_task(one())
    for connection in idle:
        connection.close()


async def _ticks(rate: float, seconds: float) -> AsyncIterator[int]:
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        delay = began + number / rate - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        yield number
