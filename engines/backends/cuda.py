"""The GPU through pycuda: context, stream, memory, copies and events. Nothing else imports pycuda.

pycuda is compiled where it is installed and is not at hand where this is developed: what is called here is checked
against the source of pycuda 2025.1.3.
"""

from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engines.errors import BackendError, EngineFailed


def why_no_gpu() -> str | None:
    """The reason why no GPU can be used in this process; None where one can."""
    if find_spec("pycuda") is None:
        return "pycuda not installed"
    try:
        driver: Any = import_module("pycuda.driver")
    except ImportError as error:
        return f"pycuda does not load: {error}"
    try:
        driver.init()
        return None if driver.Device.count() else "no GPU here"
    except driver.Error as error:
        return f"no GPU here: {error}"


class Device:
    """The first GPU, with a stream and memory of one thread's own.

    It is used within `with`, which makes the GPU's primary context the thread's current one: TensorRT works in that
    context too. A failure of the GPU leaves the block as EngineFailed.

    Attributes:
        name: the GPU's.
        compute_capability: as in 7.2.
        integrated: GPU and CPU share one memory, as on a Jetson.

    Raises BackendError where there is no GPU.
    """

    def __init__(self) -> None:
        reason = why_no_gpu()
        if reason is not None:
            raise BackendError(f"There is no GPU to run on ({reason}); choose the backend openvino or auto.")
        self._driver: Any = import_module("pycuda.driver")
        gpu = self._driver.Device(0)
        major, minor = gpu.compute_capability()
        self.name = str(gpu.name())
        self.compute_capability = f"{major}.{minor}"
        self.integrated = bool(gpu.get_attribute(self._driver.device_attribute.INTEGRATED))
        self._context = gpu.retain_primary_context()
        self._allocations: dict[int, Any] = {}
        with self:
            self._stream = self._driver.Stream()

    def __enter__(self) -> "Device":
        try:
            self._context.push()
        except self._driver.Error as error:
            raise _failure(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._context.pop()
        except self._driver.Error as failed:
            raise _failure(error or failed) from failed
        if isinstance(error, self._driver.Error):
            raise _failure(error) from error

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    @property
    def free_bytes(self) -> int:
        """The GPU's memory that nobody has."""
        return int(self._driver.mem_get_info()[0])

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike, mapped: bool = False) -> NDArray[Any]:
        """Page-locked memory that copies run from and to while the CPU goes on.

        Args:
            mapped: the GPU reads and writes it in place, at `mapped_address`.
        """
        flags = self._driver.host_alloc_flags.DEVICEMAP if mapped else 0
        array: NDArray[Any] = self._driver.pagelocked_empty(shape, np.dtype(dtype), mem_flags=flags)
        return array

    def free_host_array(self, host: NDArray[Any]) -> None:
        """Give page-locked memory back; the array must not be touched any more."""
        allocation: Any = host.base
        allocation.free()

    def mapped_address(self, host: NDArray[Any]) -> int:
        """Where the GPU finds a mapped array."""
        allocation: Any = host.base
        return int(allocation.get_device_pointer())

    def allocate(self, size: int) -> int:
        """Address of so many bytes of the GPU's. Raises BackendError where it has not as many."""
        try:
            allocation = self._driver.mem_alloc(size)
        except self._driver.MemoryError as error:
            raise BackendError(f"The GPU has no {size} bytes left; stop what else uses it.") from error
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        """Give back what was allocated there."""
        self._allocations.pop(address).free()

    def upload(self, address: int, host: NDArray[Any]) -> None:
        """Begin to copy an array of page-locked memory to the GPU, in the stream's order."""
        self._driver.memcpy_htod_async(address, host, self._stream)

    def download(self, host: NDArray[Any], address: int) -> None:
        """Begin to copy from the GPU into an array of page-locked memory, in the stream's order."""
        self._driver.memcpy_dtoh_async(host, address, self._stream)

    def synchronize(self) -> None:
        """Wait for all that the stream was given; other Python threads run meanwhile."""
        self._stream.synchronize()

    def mark(self) -> object:
        """A point in the stream's work whose time the GPU notes."""
        return self._driver.Event().record(self._stream)

    def milliseconds(self, first: object, last: object) -> float:
        """Between two marks, once the stream has passed both."""
        end: Any = last
        return float(end.time_since(first))

    def close(self) -> None:
        """Give everything back but page-locked arrays; for the thread that opened it, which uses it no more."""
        with self:
            for address in list(self._allocations):
                self.free(address)
            del self._stream


def _failure(error: BaseException) -> EngineFailed:
    return EngineFailed(f"The GPU failed ({' '.join(str(error).split())}); only a new process can use it again.")
