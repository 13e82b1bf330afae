"""CUDA graphs through the driver, which pycuda does not offer: work that a stream is given again and again, as one."""

import ctypes
from collections.abc import Callable
from functools import cache

from engines.errors import BackendError, EngineFailed

# Other threads may go on with calls that a capture forbids its own thread.
_THREAD_LOCAL = 1


class CudaGraph:
    """What a function gives a stream, captured; the context must be current in every call.

    Args:
        stream: its handle.
        submit: gives the stream copies and kernels, and waits for nothing.

    Raises:
        BackendError: the driver is older than CUDA 11.4.
        EngineFailed: what `submit` does cannot be captured.
    """

    def __init__(self, stream: int, submit: Callable[[], None]) -> None:
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        driver = _driver()
        graph = ctypes.c_void_p()
        _check(driver.cuStreamBeginCapture_v2(self._stream, _THREAD_LOCAL), "begin")
        try:
            submit()
        finally:
            ended = driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        _check(ended, "end")
        try:
            _check(
                driver.cuGraphInstantiateWithFlags(ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0)), "keep"
            )
        finally:
            driver.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Give the stream all of it. Raises EngineFailed."""
        _check(_driver().cuGraphLaunch(self._executable, self._stream), "launch")

    def close(self) -> None:
        """Give it back."""
        _driver().cuGraphExecDestroy(self._executable)


@cache
def _driver() -> ctypes.CDLL:
    driver = ctypes.CDLL("libcuda.so.1")
    if not hasattr(driver, "cuGraphInstantiateWithFlags"):
        raise BackendError("The GPU's driver is older than CUDA 11.4 and keeps no graphs; open without cuda_graphs.")
    return driver


def _check(code: int, step: str) -> None:
    if code:
        raise EngineFailed(f"The GPU cannot {step} a CUDA graph (driver error {code}); only a new process can use it.")
