"""What a process has to know and to mind that PyTorch's `torchrun` has started, on one machine or several."""

import os
import signal
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

# An attempt is over by then; what answers later is a machine that is gone.
_STORE_PATIENCE = timedelta(seconds=5)


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that torchrun started together.

    Attributes:
        rank: 0 is the first, which writes and prints.
        processes: of all machines.
        here: processes of this machine.
        machines: how many there are.
        attempt: how often torchrun has started them anew.
    """

    rank: int
    processes: int
    here: int
    machines: int
    attempt: int


def place() -> Place | None:
    """This process's place; None where torchrun did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    return Place(*(int(os.environ[name]) for name in names))


def stop_like_ctrl_c() -> None:
    """Let SIGTERM, which torchrun passes on or sends where another process failed, end the work as Ctrl-C does.

    Once: a terminal's Ctrl-C reaches a process twice, from the terminal and from torchrun.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def has_the_word() -> bool:
    """Whether this process may say why it ends: alone, or as the first of all that end.

    What goes wrong mostly does so in each process, and ends those it did not reach; one message is enough.
    """
    here = place()
    if here is None:
        return True
    try:
        return store_of(here, _STORE_PATIENCE).add("ended", 1) == 1
    except (RuntimeError, KeyError, ValueError):
        # The store went with its machine: rather twice than never.
        return True


def store_of(here: Place, patience: timedelta) -> "Store":
    """What the processes of this attempt have in common before they are a group; torchrun keeps it.

    Raises:
        RuntimeError: it cannot be reached.
    """
    # The program begins without torch, and most of its commands need none.
    from torch.distributed import PrefixStore, TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=patience)
    return PrefixStore(f"unispect/{os.environ['TORCHELASTIC_RUN_ID']}/{here.attempt}", store)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
