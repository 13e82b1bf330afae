"""The real server as a subprocess, on a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

READY_SECONDS = 60.0
PROGRAM = (sys.executable, "-m", "service")


@dataclass
class RunningServer:
    process: subprocess.Popen[bytes]
    client: httpx.Client
    url: str
    log: Path

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Terminate and wait; returns the exit code."""
        self.terminate()
        return self.process.wait(timeout=30)

    def wait_ready(self) -> None:
        self.wait_for(lambda: self.client.get("/readyz").status_code == 200)

    def wait_for(self, condition) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"Not so after {READY_SECONDS:.0f} s:\n{self.log.read_text()}")

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes by /proc: VmRSS is the memory now, VmHWM the most there was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def running_server(
    bundle: Path, folder: Path, *flags: str, program: Sequence[str] = PROGRAM, wait: bool = True
) -> Iterator[RunningServer]:
    """A server of `bundle` that writes into `folder`, stopped when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "server.log"
    arguments = [*program, "--bundle", str(bundle), "--port", str(port), "--data-dir", str(folder / "data"), *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNISPECT_")}
    with log.open("wb") as stderr:
        process = subprocess.Popen(arguments, stderr=stderr, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            server = RunningServer(process, client, url, log)
            if wait:
                server.wait_ready()
            yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
