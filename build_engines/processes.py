"""One or several processes that train together, through Fabric."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from typing import Any

import rich
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from build_engines.errors import RunError
from engines.errors import UnispectError

# How processes start and end is no news to a user.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)

# Others wait while one process prepares a method, which can take hours.
_PATIENCE = timedelta(days=7)
_SECONDS_TO_STOP = 3.0


def launch(work: Callable[..., None], device: str, devices: int, *arguments: object) -> None:
    """Call `work(fabric, *arguments)`: here for one device, else in a new process for each.

    Gradients are averaged over processes. Batch normalisation takes the statistics of each process's share of a batch
    (SyncBatchNorm, which takes the whole batch's, needs GPUs), and processes keep running statistics of their own.

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
        raise RunError(f"A training process was killed ({error}); go on with --resume, or fewer --devices.") from error
    finally:
        # Fabric leaves the port of this launch for the next, which may come while it is still taken.
        os.environ.pop("MASTER_PORT", None)


def _work(fabric: Fabric, failures: "SimpleQueue[Exception]", work: Callable[..., None], *arguments: Any) -> None:
    if not fabric.is_global_zero:
        rich.reconfigure(quiet=True)
    try:
        work(fabric, *arguments)
    except (UnispectError, OSError) as error:
        failures.put(error)
        raise


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
