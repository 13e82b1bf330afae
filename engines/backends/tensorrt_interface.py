"""The part of TensorRT's Python interface that is used here: names that 8.5, 10, 11 and TensorRT-RTX all have.

The bindings carry no types. These protocols are theirs, and nothing else of the library is ever called, so that the
type checker keeps to the common part; `missing_names` compares them with a library that is installed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Shape = Sequence[int]


class HostMemory(Protocol):
    """A buffer of the library's."""

    nbytes: int

    def __buffer__(self, flags: int, /) -> memoryview: ...


class Tensor(Protocol):
    name: str
    dtype: Any


class Layer(Protocol):
    """Weakly typed libraries also have `precision` and `set_output_type`, see `WEAKLY_TYPED`."""

    name: str
    num_inputs: int
    num_outputs: int

    def get_input(self, index: int, /) -> Tensor | None: ...

    def get_output(self, index: int, /) -> Tensor: ...


class Network(Protocol):
    num_layers: int

    def get_layer(self, index: int, /) -> Layer: ...


class Profile(Protocol):
    def set_shape(self, input: str, min: Shape, opt: Shape, max: Shape) -> object: ...


class TimingCache(Protocol):
    def serialize(self) -> HostMemory: ...


class Config(Protocol):
    profiling_verbosity: Any

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...

    def set_flag(self, flag: Any) -> None: ...

    def clear_flag(self, flag: Any) -> None: ...

    def add_optimization_profile(self, profile: Profile) -> int: ...

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache | None: ...

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool: ...


class Builder(Protocol):
    def create_network(self, flags: int) -> Network: ...

    def create_builder_config(self) -> Config: ...

    def create_optimization_profile(self) -> Profile: ...

    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None: ...


class ParserError(Protocol):
    def node(self) -> int: ...

    def desc(self) -> str: ...


class Parser(Protocol):
    num_errors: int

    def parse(self, model: bytes) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class Context(Protocol):
    def set_input_shape(self, name: str, shape: Shape) -> bool: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class Inspector(Protocol):
    def get_engine_information(self, format: Any) -> str: ...


class Engine(Protocol):
    num_io_tensors: int

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> Any: ...

    def get_tensor_dtype(self, name: str) -> Any: ...

    def get_tensor_shape(self, name: str) -> Shape: ...

    def create_execution_context(self) -> Context | None: ...

    def create_engine_inspector(self) -> Inspector: ...


class Runtime(Protocol):
    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None: ...


class TensorRt(Protocol):
    """The module."""

    __version__: str
    ILogger: Any
    BuilderFlag: Any
    DataType: Any
    LayerInformationFormat: Any
    MemoryPoolType: Any
    NetworkDefinitionCreationFlag: Any
    ProfilingVerbosity: Any
    TensorIOMode: Any
    Builder: Callable[[Any], Builder]
    OnnxParser: Callable[[Network, Any], Parser]
    Runtime: Callable[[Any], Runtime]


CLASSES: Mapping[str, type] = {
    "Builder": Builder,
    "EngineInspector": Inspector,
    "IBuilderConfig": Config,
    "ICudaEngine": Engine,
    "IExecutionContext": Context,
    "IHostMemory": HostMemory,
    "ILayer": Layer,
    "INetworkDefinition": Network,
    "IOptimizationProfile": Profile,
    "ITensor": Tensor,
    "ITimingCache": TimingCache,
    "OnnxParser": Parser,
    "ParserError": ParserError,
    "Runtime": Runtime,
}
VALUES: Mapping[str, tuple[str, ...]] = {
    "BuilderFlag": ("TF32",),
    "DataType": ("FLOAT", "UINT8"),
    "ILogger": ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"),
    "LayerInformationFormat": ("JSON",),
    "MemoryPoolType": ("WORKSPACE",),
    "NetworkDefinitionCreationFlag": (),
    "ProfilingVerbosity": ("DETAILED",),
    "TensorIOMode": ("INPUT", "OUTPUT"),
}
# What a library has besides where `BuilderFlag.FP16` is one of its names: types are then the compiler's choice.
WEAKLY_TYPED: Mapping[str, tuple[str, ...]] = {
    "BuilderFlag": ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"),
    "ILayer": ("precision", "set_output_type"),
}
# Used where a library has them, and done without where it has not.
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "CudaGraphStrategy": ("WHOLE_GRAPH_CAPTURE",),
    "IBuilderConfig": ("progress_monitor", "num_compute_capabilities", "set_compute_capability"),
    "ICudaEngine": ("create_runtime_config",),
    "IProgressMonitor": ("phase_start", "phase_finish", "step_complete"),
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
}


def required_names(weakly_typed: bool) -> dict[str, set[str]]:
    """Class or enumeration to the names that it must have."""
    names = {cls: _public(protocol) for cls, protocol in CLASSES.items()}
    for needed in (VALUES, WEAKLY_TYPED if weakly_typed else {}):
        for cls, values in needed.items():
            names[cls] = names.get(cls, set()) | set(values)
    return names


def missing_names(library: object) -> list[str]:
    """What an installed library lacks of the names used here, as in `ICudaEngine.num_io_tensors`."""
    weakly_typed = hasattr(getattr(library, "BuilderFlag", None), "FP16")
    return [
        f"{cls}.{name}"
        for cls, names in sorted(required_names(weakly_typed).items())
        for name in sorted(names)
        if not hasattr(getattr(library, cls, None), name)
    ]


def _public(protocol: type) -> set[str]:
    names = {*vars(protocol), *getattr(protocol, "__annotations__", {})}
    return {name for name in names if not name.startswith("_")}
