"""Runs one loaded plan: buffers for the largest batch, allocated once, and one synchronisation a batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.backends.base import RawResult
from engines.backends.cuda import Device
from engines.backends.cuda_graph import CudaGraph
from engines.backends.tensorrt_interface import Context, Engine
from engines.backends.tensorrt_library import Library
from engines.bundle import Network
from engines.errors import BackendError, EngineFailed

# TensorRT 8.5's own table of types fails with NumPy 1.24 and later.
_TYPES = {"UINT8": np.dtype(np.uint8), "FLOAT": np.dtype(np.float32)}


@dataclass(frozen=True)
class TensorRtOptions:
    """Switches of speed.

    Attributes:
        cuda_graphs: launch each batch size's work as one CUDA graph. Each size then has an execution context of its
            own, and its memory. Off, for what it gains depends on the device and was not measured on a Jetson.
        mapped: the GPU reads and writes the CPU's buffers in place, without copies. None: where both share one memory,
            whichever is faster when the plan is opened; elsewhere copies.
    """

    cuda_graphs: bool = False
    mapped: bool | None = None


@dataclass(slots=True)
class _Execution:
    context: Context
    count: int = 0
    graph: CudaGraph | None = None


class Runner:
    """A plan with its buffers. All methods are called with the device's context current.

    Args:
        engine: loaded from a plan of this network.
        largest: batch that the plan takes.
        mapped: see `TensorRtOptions`.

    Raises BackendError where the plan is of another network, or memory does not suffice.
    """

    def __init__(
        self,
        library: Library,
        engine: Engine,
        device: Device,
        network: Network,
        largest: int,
        mapped: bool,
        cuda_graphs: bool,
    ) -> None:
        self._library, self._engine, self._device, self._network = library, engine, device, network
        self.largest, self._mapped, self._cuda_graphs = largest, mapped, cuda_graphs
        self._host: dict[str, NDArray[Any]] = {}
        self._addresses: dict[str, int] = {}
        for name, (dtype, shape) in _expected(network).items():
            host = device.host_array((largest, *shape), dtype, mapped)
            self._host[name] = host
            self._addresses[name] = device.mapped_address(host) if mapped else device.allocate(host.nbytes)
        self._executions: dict[int, _Execution] = {}

    @staticmethod
    def check(library: Library, engine: Engine, network: Network) -> None:
        """Raises BackendError where a plan's inputs and outputs are not the network's."""
        found = library.tensors(engine)
        for name, (dtype, shape) in _expected(network).items():
            is_input, kind, size = found.get(name, (False, "", ()))
            right = (is_input, _TYPES.get(kind), size[1:]) == (name == network.input.name, dtype, shape)
            if not right:
                raise BackendError(
                    f"The plan of {network.path} has no {name} of shape {list(shape)}; compile it from this bundle."
                )

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        """Run uint8 [N, H, W, 3], N at most `largest`. Raises EngineFailed."""
        count = len(batch)
        self._host[self._network.input.name][:count] = batch
        execution = self._prepared(count)
        if execution.graph is not None:
            execution.graph.launch()
        else:
            self._submit(execution.context, count)
        self._device.synchronize()
        outputs = self._network.outputs
        return RawResult(
            *(self._host[name][:count].copy() for name in (outputs.maps, outputs.scores, outputs.embeddings))
        )

    def milliseconds(self, batch: NDArray[np.uint8]) -> float:
        """What the GPU takes to compute a batch, without copies and without this process's part in it."""
        count = len(batch)
        self._host[self._network.input.name][:count] = batch
        execution = self._prepared(count)
        self._upload(count)
        first = self._device.mark()
        self._execute(execution.context)
        last = self._device.mark()
        self._device.synchronize()
        return self._device.milliseconds(first, last)

    def close(self) -> None:
        """Give contexts, graphs and buffers back."""
        for execution in self._executions.values():
            if execution.graph is not None:
                execution.graph.close()
        self._executions.clear()
        for name, host in self._host.items():
            self._device.free_host_array(host)
            if not self._mapped:
                self._device.free(self._addresses[name])
        self._host.clear()

    def _prepared(self, count: int) -> _Execution:
        """A context that is set to this batch size. A captured graph is bound to the state of its context."""
        captures = self._cuda_graphs and not self._library.has_native_graphs
        key = count if captures else 0
        execution = self._executions.get(key)
        if execution is None:
            native = self._cuda_graphs and self._library.has_native_graphs
            execution = _Execution(self._library.create_context(self._engine, native))
            for name, address in self._addresses.items():
                if not execution.context.set_tensor_address(name, address):
                    raise BackendError(f"TensorRT does not know the tensor {name}; compile the plan again.")
            self._executions[key] = execution
        if execution.count != count:
            size = self._network.input
            if not execution.context.set_input_shape(size.name, (count, size.height, size.width, 3)):
                raise EngineFailed(f"TensorRT refuses a batch of {count} ({self._library.last_error}); start it again.")
            execution.count = count
            if captures:
                # The first run after a change of shape does work that is not to be captured.
                self._submit(execution.context, count)
                self._device.synchronize()
                execution.graph = CudaGraph(self._device.stream, lambda: self._submit(execution.context, count))
        return execution

    def _submit(self, context: Context, count: int) -> None:
        self._upload(count)
        self._execute(context)
        if not self._mapped:
            for name, host in self._host.items():
                if name != self._network.input.name:
                    self._device.download(host[:count], self._addresses[name])

    def _upload(self, count: int) -> None:
        if not self._mapped:
            name = self._network.input.name
            self._device.upload(self._addresses[name], self._host[name][:count])

    def _execute(self, context: Context) -> None:
        self._library.forget_errors()
        if not context.execute_async_v3(self._device.stream):
            raise EngineFailed(
                f"TensorRT failed ({self._library.last_error}); only a new process can use the GPU again."
            )


def _expected(network: Network) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    size, outputs = network.input, network.outputs
    floating = np.dtype(np.float32)
    return {
        size.name: (np.dtype(np.uint8), (size.height, size.width, 3)),
        outputs.maps: (floating, (outputs.map_height, outputs.map_width)),
        outputs.scores: (floating, ()),
        outputs.embeddings: (floating, (outputs.embedding_size,)),
    }
