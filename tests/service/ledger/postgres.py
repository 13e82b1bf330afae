"""A real PostgreSQL server of the test's own, on a free port, where its programs are installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.service.running import free_port


@dataclass
class Postgres:
    programs: Path
    folder: Path
    port: int
    user: str

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        self._control("stop", "-m", "fast")

    def make_database(self, name: str) -> str:
        """An empty database; returns its URL."""
        self.run("psql", "--dbname", self.url(), "--command", f"CREATE DATABASE {name}")
        return self.url(name)

    def run(self, program: str, *arguments: str) -> None:
        """As the user that owns the folder: the server refuses root."""
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, user=self.user, cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def _control(self, *arguments: str) -> None:
        # Not a pipe: the server would keep it open.
        command = [str(self.programs / "pg_ctl"), "--wait", "--pgdata", str(self.folder / "data"), *arguments]
        with (self.folder / "control").open("wb") as output:
            done = subprocess.run(command, user=self.user, cwd=self.folder, stdout=output, stderr=output, timeout=120)
        assert done.returncode == 0, (self.folder / "control").read_text()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Skips the test where there is no PostgreSQL, or no user that it may run as."""
    programs = _programs()
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="unispect-postgres-"))
    shutil.chown(folder, user)
    server = Postgres(programs, folder, free_port(), user)
    try:
        server.run("initdb", "--pgdata", str(folder / "data"), "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if (on_path := shutil.which("initdb")) is not None:
        found.append(Path(on_path).resolve().parent)
    if not found:
        pytest.skip("no PostgreSQL server here; apt-get install postgresql")
    return found[-1]


def _user() -> str:
    if os.geteuid():
        return pwd.getpwuid(os.geteuid()).pw_name
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL refuses root, and there is no user postgres")
