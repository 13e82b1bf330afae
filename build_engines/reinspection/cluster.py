"""Ray: started on this machine for one scoring, or a cluster that is there already."""

import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Read when Ray is imported and started: it would report its use to its maker.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from build_engines.errors import ReinspectionError

_SECONDS_TO_LISTEN = 5
_SECONDS_TO_ANSWER = 30
_STDERR = 2
# What a user says of Ray's authentication.
_AUTHENTICATION = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
# Ray ends the process that finds nobody at an address, after a minute and with its own words.
_PROBE = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"


@dataclass(frozen=True)
class Workers:
    """How a cluster is shared out.

    Attributes:
        count: worker processes, each with its own engine.
        cpus, gpus: of each.
    """

    count: int
    cpus: int
    gpus: int

    @classmethod
    def share(cls, count: int | None, on_gpu: bool) -> "Workers":
        """Divide what the connected cluster has.

        Args:
            count: None for one worker a GPU, or a core where the engine runs on the CPU.

        Raises ReinspectionError where it has too little.
        """
        resources = ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        available, what = (gpus, "GPUs") if on_gpu else (cores, "cores")
        wanted = available if count is None else count
        if not 0 < wanted <= min(available, cores):
            raise ReinspectionError(
                f"{wanted or 1} workers need as many {what}, and Ray has {available}, and {cores} cores; give fewer as "
                "--workers, or another --backend."
            )
        return cls(wanted, cores // wanted, 1 if on_gpu else 0)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray for a block: a cluster's, or one of this machine's cores that ends with the block.

    Args:
        address: HOST:PORT, or `auto` for the one that this machine belongs to; None starts one.

    Raises ReinspectionError where nobody answers there within half a minute.
    """
    own: dict[str, Any] = {}
    if address is None:
        own = {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        if not _AUTHENTICATION & os.environ.keys():
            # Ray would leave one in the user's home.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    else:
        _require_listener(address)
        _require_answer(address)
    with _native_stderr_closed():
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ReinspectionError(f"Ray cannot be started or reached here: {_first_line(error)}.") from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Without what Ray's native code writes on the screen beside its logs, whatever level it is told to keep to."""
    screen = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDERR)
        yield
    finally:
        os.dup2(screen, _STDERR)
        os.close(screen)
        os.close(nowhere)


def _require_listener(address: str) -> None:
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ReinspectionError(f"--ray {address} is no address; give HOST:PORT of a cluster's head, or auto.")
    try:
        with socket.create_connection((host, int(port)), _SECONDS_TO_LISTEN):
            pass
    except (OSError, OverflowError) as error:
        raise ReinspectionError(
            f"No Ray cluster answers at {address} ({error}); start one there, or leave --ray out."
        ) from error


def _require_answer(address: str) -> None:
    command = [sys.executable, "-c", _PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ReinspectionError(
            f"No Ray cluster answered at {address} within {_SECONDS_TO_ANSWER} s; start one there, or leave --ray out."
        ) from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
        raise ReinspectionError(
            f"No Ray cluster can be used at {address} ({reason}); check it, and set RAY_AUTH_MODE=token where it asks "
            "for a token."
        )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
