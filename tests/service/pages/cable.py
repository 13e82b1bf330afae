"""A connection to the service that can be pulled and mended."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Cable:
    """Carries bytes both ways between who connects to `url` and the service.

    Args:
        listener: where clients connect.
        target: the service's URL.
    """

    def __init__(self, listener: socket.socket, target: str) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._listener, self._target = listener, urlsplit(target)
        self._pulled = False
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def pull(self) -> None:
        """Cut all connections, and those to come."""
        self._pulled = True
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Carry again what connects from now on."""
        self._pulled = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._pulled:
                    client.close()
                    continue
                server = socket.create_connection((self._target.hostname, self._target.port))
                self._ends += (client, server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=_carry, args=ends, daemon=True).start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError), one, other:
        while data := one.recv(65536):
            other.sendall(data)


@contextmanager
def cable(target: str) -> Iterator[Cable]:
    """A cable to the service, gone when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        carrying = Cable(listener, target)
        yield carrying
        carrying.pull()
        listener.shutdown(socket.SHUT_RDWR)
