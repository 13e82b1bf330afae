"""The threads in which the past is read: few, so that looking back never takes the processor from inspections."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from service.errors import LedgerFailed

_THREADS = 2
_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class ReadingThreads:
    """Runs what waits for the database or the disk, or draws. `close` once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "reading")

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function in one of the threads; returns and raises what it does.

        Raises LedgerFailed where it reads the ledger and cannot.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))
        except SQLAlchemyError as error:
            _log.exception("The ledger cannot be read.")
            raise LedgerFailed("The ledger cannot be read now; see the log, and ask again in a few seconds.") from error

    def close(self) -> None:
        """Stop once what runs is done; what has not begun is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)
