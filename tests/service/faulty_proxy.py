"""A proxy that carries each request to the server, and now and then loses the answer or says something else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LOST = b""
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


@dataclass
class FaultyProxy:
    """`faults` are sent to the client in place of the next answers, and the connection is closed."""

    url: str
    faults: list[bytes] = field(default_factory=list)
    carried: int = 0
    connections: int = 0


@contextmanager
def faulty_proxy(url: str) -> Iterator[FaultyProxy]:
    target = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FaultyProxy(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def accept() -> None:
            while True:
                try:
                    client = listener.accept()[0]
                except OSError:
                    return
                proxy.connections += 1
                threading.Thread(target=carry, args=(client,), daemon=True).start()

        def carry(client: socket.socket) -> None:
            with client, socket.create_connection((target.hostname, target.port), timeout=30) as server:
                while request := message(client):
                    server.sendall(request)
                    answer = message(server)
                    proxy.carried += 1
                    if proxy.faults:
                        client.sendall(proxy.faults.pop(0))
                        return
                    client.sendall(answer)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def message(connection: socket.socket) -> bytes:
    """One HTTP message with a declared length; empty where the other side has closed."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head = data[:end].lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
    while len(data) < end + 4 + length:
        data += connection.recv(65536)
    return data
