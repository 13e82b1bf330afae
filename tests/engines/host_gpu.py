"""A GPU that is this process's own memory, and a TensorRT whose plans are ONNX graphs that ONNX Runtime runs on it.

Neither can be had where the tests run. With these the backend's own part runs for real: buffers, addresses, copies,
shapes, splitting and errors; a wrong address or size gives wrong numbers or none.
"""

import ctypes
from collections import defaultdict
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray
from onnx import numpy_helper

from engines.backends.cuda import Device
from engines.backends.tensorrt_compiler import Compiled, Source, Target
from engines.backends.tensorrt_library import Library
from engines.errors import BackendError, EngineFailed

_TYPES = {"tensor(uint8)": ("UINT8", np.uint8), "tensor(float)": ("FLOAT", np.float32)}


class HostDevice(Device):
    """Counts what it is asked for, in `calls`."""

    def __init__(self, integrated: bool = False, capability: str = "7.2") -> None:
        self.name, self.compute_capability, self.integrated = "host", capability, integrated
        self.calls: dict[str, int] = defaultdict(int)
        self.memory: dict[int, Any] = {}
        self.current, self.closed = 0, False
        self.mapped_is_slow = False

    def __enter__(self) -> "HostDevice":
        self.current += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.current -= 1

    @property
    def stream(self) -> int:
        return 1

    @property
    def free_bytes(self) -> int:
        return 10**9 - sum(ctypes.sizeof(block) for block in self.memory.values())

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike, mapped: bool = False) -> NDArray[Any]:
        self.calls["mapped" if mapped else "host_array"] += 1
        return np.full(shape, 77, dtype)

    def free_host_array(self, host: NDArray[Any]) -> None:
        self.calls["free_host_array"] += 1

    def mapped_address(self, host: NDArray[Any]) -> int:
        return int(host.ctypes.data)

    def allocate(self, size: int) -> int:
        assert self.current
        block = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        del self.memory[address]

    def upload(self, address: int, host: NDArray[Any]) -> None:
        self._copy(address, int(host.ctypes.data), host.nbytes, "upload")

    def download(self, host: NDArray[Any], address: int) -> None:
        self._copy(int(host.ctypes.data), address, host.nbytes, "download")

    def synchronize(self) -> None:
        assert self.current
        self.calls["synchronize"] += 1

    def mark(self) -> object:
        return perf_counter()

    def milliseconds(self, first: object, last: object) -> float:
        return 1e3 * (last - first)  # type: ignore[operator]

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self.memory.clear()

    def _copy(self, target: int, source: int, size: int, name: str) -> None:
        assert self.current
        self.calls[name] += 1
        ctypes.memmove(target, source, size)


class HostLibrary(Library):
    """Attributes:
    fail_after: number of runs after which the GPU fails.
    """

    def __init__(self, version: str = "8.5.2.2", fail_after: int = 10**9) -> None:
        self.name, self.title, self.version = "tensorrt", "TensorRT", version
        self.fail_after, self.contexts = fail_after, 0
        self._errors: list[str] = []

    strongly_typed = False  # type: ignore[assignment]
    has_native_graphs = False  # type: ignore[assignment]

    def load(self, plan: bytes) -> Any:
        try:
            return ort.InferenceSession(plan, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BackendError(f"TensorRT {self.version} refuses the plan.") from error

    def create_context(self, engine: Any, native_graphs: bool = False) -> "HostContext":
        self.contexts += 1
        return HostContext(self, engine)

    def layer_information(self, engine: Any) -> str:
        return '{"Layers": []}'

    def tensors(self, engine: Any) -> dict[str, tuple[bool, str, tuple[int, ...]]]:
        ends = [(True, one) for one in engine.get_inputs()] + [(False, one) for one in engine.get_outputs()]
        return {
            one.name: (is_input, _TYPES[one.type][0], tuple(n if isinstance(n, int) else -1 for n in one.shape))
            for is_input, one in ends
        }


class HostContext:
    def __init__(self, library: HostLibrary, session: ort.InferenceSession) -> None:
        self._library, self._session = library, session
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = tuple(shape)
        return name == self._session.get_inputs()[0].name

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._library.fail_after -= 1
        if self._library.fail_after < 0:
            self._library._errors.append("an illegal memory access was encountered")
            return False
        (images,) = self._session.get_inputs()
        values = self._session.run(None, {images.name: _at(self._addresses[images.name], self._shape, np.uint8)})
        for output, value in zip(self._session.get_outputs(), values, strict=True):
            _at(self._addresses[output.name], value.shape, np.float32)[...] = value
        return True


class HostGraph:
    """A captured graph: what was submitted while it was captured, and again at each launch."""

    launches = 0

    def __init__(self, stream: int, submit: Any) -> None:
        if stream != 1:
            raise EngineFailed("no such stream")
        self._submit = submit

    def launch(self) -> None:
        type(self).launches += 1
        self._submit()

    def close(self) -> None:
        self._submit = None


class HostCompiler:
    """Stands where `compile_source` does: a plan is the very graph that a compiler would get.

    Attributes:
        seen: what it was given.
        spoil: changes the graph as a compiler's mistake would.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[Source, Target, bytes]] = []
        self.spoil = lambda model: model

    def __call__(
        self, library: object, source: Source, target: Target, timing_cache: bytes, progress: object
    ) -> Compiled:
        self.seen.append((source, target, timing_cache))
        progress(0.5)  # type: ignore[operator]
        return Compiled(self.spoil(onnx.load_from_string(source.model)).SerializeToString(), b"measured")


def weaker(model: onnx.ModelProto) -> onnx.ModelProto:
    """What a compiler with a mistake would make of an INT8 network."""
    weight = next(t for t in model.graph.initializer if t.name.endswith("_int8_float"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(0.3), weight.name))
    return model


def _at(address: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    block = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(block, dtype).reshape(shape)
