"""Compiled plans on disk: whole or absent, each with the key it was made for, built by one process at a time.

A plan runs only on the GPU model and the library version that compiled it. Beside each, a sidecar says what it is; the
sidecar is written last, so that a plan without one, or with one that does not fit it, was never finished.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from engines.bundle import Network
from engines.errors import CompileError
from engines.files import sha256_of, write_atomic
from engines.plan_records import PlanKey, PlanRecord, difference, same_but

# What a compiler's own files, a plan and a timing cache may take together.
FREE_BYTES = 2_500_000_000
_LOCK = "compile.lock"


@dataclass(frozen=True, slots=True)
class Plan:
    """An intact plan and its record."""

    path: Path
    record: PlanRecord


@dataclass(frozen=True, slots=True)
class Found:
    """A plan, or the reason why there is none."""

    plan: Plan | None
    reason: str = ""


def plans_folder(network: Network, cache_dir: Path | None) -> Path:
    """Where a network's plans are: in the folder of compiled networks, or beside it where there is none."""
    return (cache_dir or network.path.parent) / "plans"


class PlanStore:
    """A folder of plans.

    Args:
        folder: made when it is first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: PlanKey) -> Found:
        """The plan of exactly this key, verified whole."""
        found = self._read(self._sidecar(key))
        if found.plan is None and not self._sidecar(key).exists():
            return Found(None, self._nearest(key))
        return found

    def latest(self, key: PlanKey) -> Found:
        """The plan compiled last for this network, library and device, whatever its precision and profile."""
        records = [record for record in self._records() if same_but(record.key, key, "precision", "profile")]
        reason = ""
        for record in sorted(records, key=lambda record: record.created, reverse=True):
            found = self._read(self._sidecar(record.key))
            if found.plan is not None:
                return found
            reason = reason or found.reason
        return Found(None, reason or self._nearest(key))

    def save(self, record: PlanRecord, content: bytes, layers: str | None) -> Plan:
        """Write a plan, then what its layers are, then its sidecar; plans of older versions of it go.

        Raises CompileError where the disk is full.
        """
        path = self._plan(record.key)
        with self._full_disk():
            write_atomic(path, content)
            if layers is not None:
                write_atomic(path.with_suffix(".layers.json"), layers.encode())
            self.update(record)
        for older in self._records():
            if older.key != record.key and same_but(older.key, record.key, "version", "form"):
                self._remove(older.key)
        return Plan(path, record)

    def update(self, record: PlanRecord) -> None:
        """Write a plan's sidecar anew. Raises CompileError where the disk is full."""
        with self._full_disk():
            write_atomic(self._sidecar(record.key), (record.model_dump_json(indent=1) + "\n").encode())

    def timing_cache(self, key: PlanKey) -> bytes:
        """What the compiler measured on this device before, in its own format; empty where it did not."""
        path = self._timing_cache(key)
        return path.read_bytes() if path.is_file() else b""

    def save_timing_cache(self, key: PlanKey, content: bytes) -> None:
        """Raises CompileError where the disk is full."""
        with self._full_disk():
            write_atomic(self._timing_cache(key), content)

    def require_space(self, needed: int = FREE_BYTES) -> None:
        """Raises CompileError where fewer bytes are free."""
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise CompileError(
                f"{self.folder} has {free / 1e9:.1f} GB free and compiling needs {needed / 1e9:.1f} GB; free some, or "
                "give a folder on another disk as --cache-dir."
            )

    @contextmanager
    def lock(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the only process that compiles into this folder; the kernel lets go of the lock of one that dies.

        Args:
            waiting: called once where another process has the lock.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            for orphan in self.folder.glob(".*"):
                orphan.unlink(missing_ok=True)
            yield

    def _read(self, sidecar: Path) -> Found:
        try:
            record = PlanRecord.model_validate_json(sidecar.read_bytes())
        except (OSError, ValidationError):
            return Found(None, f"the record {sidecar.name} cannot be read")
        path = self._plan(record.key)
        if not path.is_file():
            return Found(None, f"the plan {path.name} is missing")
        size = path.stat().st_size
        if size != record.size:
            return Found(None, f"the plan {path.name} is truncated: {size} bytes of {record.size}")
        if sha256_of(path) != record.sha256:
            return Found(None, f"the plan {path.name} was altered after it was compiled")
        return Found(Plan(path, record))

    def _records(self) -> list[PlanRecord]:
        records = []
        for sidecar in sorted(self.folder.glob("*.plan.json")):
            try:
                records.append(PlanRecord.model_validate_json(sidecar.read_bytes()))
            except (OSError, ValidationError):
                continue
        return records

    def _nearest(self, key: PlanKey) -> str:
        """What keeps the plan that is most like the one wanted from being it."""
        differences = [
            difference(record.key, key)
            for record in self._records()
            if record.key.onnx_sha256 == key.onnx_sha256 and record.key.library == key.library
        ]
        nearest = min((clauses for clauses in differences if clauses), key=len, default=None)
        return nearest[0] if nearest else f"none was compiled into {self.folder}"

    def _plan(self, key: PlanKey) -> Path:
        return self.folder / f"{key.digest}.plan"

    def _sidecar(self, key: PlanKey) -> Path:
        return self.folder / f"{key.digest}.plan.json"

    def _timing_cache(self, key: PlanKey) -> Path:
        return self.folder / f"{key.library}-{key.version}-sm{key.compute_capability}.timing"

    def _remove(self, key: PlanKey) -> None:
        for path in (self._sidecar(key), self._plan(key), self._plan(key).with_suffix(".layers.json")):
            path.unlink(missing_ok=True)

    @contextmanager
    def _full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CompileError(
                f"The disk of {self.folder} is full ({os.strerror(error.errno)}); free some space and compile again."
            ) from error
