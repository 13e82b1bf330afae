"""One or several processes that train together, through Fabric: started here, or by torchrun on several machines."""

import faulthandler
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeVar

import rich
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from build_engines import torchrun
from build_engines.errors import RunError
from engines.errors import UnispectError

# How processes start and end is no news to a user.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)

# Others wait while one process prepares a method, which can take hours.
_PATIENCE = timedelta(days=7)
_SECONDS_TO_STOP = 3.0
# Where another process is gone; gloo's errors are of no class of their own.
_LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
_Made = TypeVar("_Made")


@contextmanager
def joined(device: str) -> Iterator[Fabric | None]:
    """The processes that torchrun has started, this one among them, while the block lasts; None without torchrun.

    In all but the first, what shows progress is silent.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        RunError: machines have different numbers of processes, or another process is gone.
    """
    place = torchrun.place()
    if place is None:
        yield None
        return
    if place.here * place.machines != place.processes:
        raise RunError(
            f"torchrun has started {place.here} processes on {socket.gethostname()} and {place.processes} on "
            f"{place.machines} machines; give each the same --nproc-per-node."
        )
    rich.reconfigure(quiet=place.rank > 0)
    strategy = DDPStrategy(timeout=_PATIENCE, forward_sync_buffers=False)
    fabric = Fabric(
        accelerator=device, devices=place.here, num_nodes=place.machines, strategy=strategy, precision="32-true"
    )
    try:
        if place.attempt and place.machines == 1:
            # torchrun's own store still has the addresses of the attempt before (PyTorch's issues 135712, 167288).
            store = torchrun.store_of(place, _PATIENCE)
            backend = "nccl" if device == "cuda" else "gloo"
            torch.distributed.init_process_group(
                backend, store=store, rank=place.rank, world_size=place.processes, timeout=_PATIENCE
            )
        fabric.launch()
        yield fabric
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and not any(sign in str(error) for sign in _LOST):
            raise
        raise RunError("A training process was lost; call the same command again with --resume.") from error
    torch.distributed.destroy_process_group()


def launch(work: Callable[..., None], device: str, devices: int, *arguments: object) -> None:
    """Call `work(fabric, *arguments)`: here for one device, else in a new process for each.

    Args:
        work: a function of a module, which new processes import.
        device: `cpu` or `cuda`.
        devices: GPUs, or processes on the CPU.
        arguments: anything that can be pickled.

    Raises:
        UnispectError, OSError: as a process raised it.
        RunError: a process was killed.
    """
    # Fabric's own bf16-mixed casts what goes in and out as well, and takes twice the time on a CPU.
    if devices == 1:
        fabric = Fabric(accelerator=device, devices=1, precision="32-true")
        fabric.launch()
        work(fabric, *arguments)
        return
    strategy = DDPStrategy(start_method="spawn", timeout=_PATIENCE, forward_sync_buffers=False)
    fabric = Fabric(accelerator=device, devices=devices, strategy=strategy, precision="32-true")
    failures: SimpleQueue[Exception] = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        fabric.launch(_work, failures, work, *arguments)
    except KeyboardInterrupt:
        _stop_children()
        raise
    except ProcessRaisedException:
        if failures.empty():
            raise
        raise failures.get() from None
    except ProcessExitedException as error:
        # One that loses its partner may be gone before the partner has told why it ended.
        if not failures.empty():
            raise failures.get() from None
        raise RunError(f"A training process was killed ({error}); go on with --resume, or fewer --devices.") from error
    finally:
        # Fabric leaves the port of this launch for the next, which may come while it is still taken.
        os.environ.pop("MASTER_PORT", None)


def gathered(fabric: Fabric, value: _Made) -> list[_Made]:
    """What each process gives, by rank; anything that can be pickled."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def together(fabric: Fabric, make: Callable[[], _Made]) -> _Made:
    """What each process makes for itself; where one cannot, none goes on: all raise its UnispectError or OSError."""
    made, failure = _tried(make)
    place = torchrun.place()
    if failure is not None and place is not None and place.machines > 1:
        failure = RunError(f"On {socket.gethostname()}: {failure}")
    for failed in gathered(fabric, failure):
        if failed is not None:
            raise failed
    return made


def from_first(fabric: Fabric | None, make: Callable[[], _Made]) -> _Made:
    """What the first process makes, for all, which wait; where it cannot, all raise its UnispectError or OSError."""
    if fabric is None:
        return make()
    made, failure = fabric.broadcast(_tried(make) if fabric.is_global_zero else None)
    if failure is not None:
        raise failure
    return made


def processes_here(fabric: Fabric) -> int:
    """How many of the processes are on this machine."""
    place = torchrun.place()
    return fabric.world_size if place is None else place.here


def share_state(fabric: Fabric, network: nn.Module) -> None:
    """Give all processes the parameters and buffers that the first one has."""
    if fabric.world_size == 1:
        return
    for value in network.state_dict().values():
        shared = value.contiguous()
        torch.distributed.broadcast(shared, 0)
        value.copy_(shared)


def _tried(make: Callable[[], _Made]) -> tuple[Any, Exception | None]:
    try:
        return make(), None
    except (UnispectError, OSError) as error:
        return None, error


def _work(fabric: Fabric, failures: "SimpleQueue[Exception]", work: Callable[..., None], *arguments: Any) -> None:
    if not fabric.is_global_zero:
        rich.reconfigure(quiet=True)
    # Of a process that a library aborts nothing else is told.
    faulthandler.enable()
    try:
        work(fabric, *arguments)
    except (UnispectError, OSError) as error:
        failures.put(error)
        raise
    if fabric.world_size > 1:
        # gloo's threads may abort a process whose partner ends while it is still connected.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _stop_children() -> None:
    """Ctrl-C in a terminal reaches the children as well; a signal to this process alone does not."""
    children = multiprocessing.active_children()
    for child in children:
        child.join(_SECONDS_TO_STOP)
    for child in children:
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, signal.SIGINT)
            child.join(_SECONDS_TO_STOP)
            child.kill()
