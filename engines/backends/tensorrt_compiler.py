"""From an ONNX graph to a TensorRT plan, by a compiler that is weakly typed (8.5, 10) or strongly typed (11, RTX)."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from engines.backends.tensorrt_interface import Config, Layer, Network, Parser, TimingCache
from engines.backends.tensorrt_library import Library, implementation, on_one_line
from engines.bundle import ImageInput
from engines.errors import CompileError
from engines.plan_records import PlanPrecision, Profile

Report = Callable[[float], None]


@dataclass(frozen=True)
class Source:
    """What is compiled.

    Attributes:
        model: the serialized ONNX graph in TensorRT's form; with FP16 in it where the library is strongly typed.
        titles: of its nodes, in order, for messages.
        tensors: names of what they give.
        float_tensors: those that must be computed in float32 whatever the precision.
    """

    model: bytes
    titles: Sequence[str]
    tensors: Collection[str]
    input: ImageInput
    precision: PlanPrecision
    float_tensors: Collection[str] = ()


@dataclass(frozen=True)
class Target:
    """What it is compiled for.

    Attributes:
        workspace_bytes: of the GPU's memory that a layer may use while it runs.
        compute_capability: of the GPU, as in 8.6; None for the one at hand.
    """

    profile: Profile
    workspace_bytes: int
    compute_capability: str | None = None


@dataclass(frozen=True)
class Compiled:
    """A plan, and what the compiler has measured of this device so far; empty where it measures nothing."""

    plan: bytes
    timing_cache: bytes


def compile_source(
    library: Library, source: Source, target: Target, timing_cache: bytes = b"", progress: Report | None = None
) -> Compiled:
    """Compile a graph. Takes minutes on a Jetson; other threads run meanwhile.

    Args:
        timing_cache: of an earlier call on this device.
        progress: gets the share that is done, in [0, 1], where the library tells.

    Raises CompileError where the library refuses, with the node where it names one.
    """
    module = library.module
    library.forget_errors()
    builder = module.Builder(library.logger)
    network = builder.create_network(_network_flags(library))
    parser = module.OnnxParser(network, library.logger)
    if not parser.parse(source.model):
        raise CompileError(f"{library.title} {library.version} refuses {_refused(library, parser, source.titles)}.")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, target.workspace_bytes)
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    config.clear_flag(module.BuilderFlag.TF32)
    if not library.strongly_typed and source.precision != "fp32":
        _set_precision(library, config, network, source)
    shapes = builder.create_optimization_profile()
    batches = (1, target.profile.preferred, target.profile.largest)
    smallest, preferred, largest = ((count, source.input.height, source.input.width, 3) for count in batches)
    shapes.set_shape(source.input.name, smallest, preferred, largest)
    config.add_optimization_profile(shapes)
    cache = _timing_cache(library, config, timing_cache)
    if target.compute_capability is not None:
        _aim(library, config, target.compute_capability)
    if progress is not None:
        _watch(library, config, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise CompileError(
            f"{library.title} {library.version} cannot compile the network for compute capability "
            f"{target.compute_capability or 'of this GPU'}: {library.last_error}."
        )
    return Compiled(bytes(plan), bytes(cache.serialize()) if cache is not None else b"")


def float_layers(network: Network, source: Source, floating: object) -> list[tuple[Layer, tuple[int, ...]]]:
    """Which layers must compute in float32, and the numbers of the outputs that they must give so.

    The parser names a tensor as the graph does. Of its own it adds constants, and layers where it makes several of one
    node; these belong to the layers that read them: a constant of 1e-12 is zero in FP16.

    Args:
        floating: the library's float32; tensors of integers are left alone.
    """
    chosen: dict[int, tuple[int, ...]] = {}
    readers: dict[str, list[int]] = {}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    # Backwards, so that readers come before what they read.
    for index, layer in reversed(list(enumerate(layers))):
        numbers = []
        for number in range(layer.num_outputs):
            tensor = layer.get_output(number)
            read_by = readers.get(tensor.name, [])
            added = tensor.name not in source.tensors and read_by and all(reader in chosen for reader in read_by)
            if tensor.dtype == floating and (tensor.name in source.float_tensors or added):
                numbers.append(number)
        if numbers:
            chosen[index] = tuple(numbers)
        for number in range(layer.num_inputs):
            if (read := layer.get_input(number)) is not None:
                readers.setdefault(read.name, []).append(index)
    return [(layers[index], chosen[index]) for index in sorted(chosen)]


def _network_flags(library: Library) -> int:
    known = library.module.NetworkDefinitionCreationFlag
    wanted = ["EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if library.strongly_typed else [])]
    flags = 0
    for name in wanted:
        if (flag := getattr(known, name, None)) is not None:
            flags |= 1 << int(flag)
    return flags


def _refused(library: Library, parser: Parser, titles: Sequence[str]) -> str:
    if not parser.num_errors:
        return f"the network: {library.last_error}"
    error = parser.get_error(parser.num_errors - 1)
    index = error.node()
    node = f"the node {titles[index]}" if 0 <= index < len(titles) else "the network"
    return f"{node}: {on_one_line(error.desc())}"


def _set_precision(library: Library, config: Config, network: Network, source: Source) -> None:
    flags = library.module.BuilderFlag
    config.set_flag(flags.FP16)
    if source.precision == "int8":
        config.set_flag(flags.INT8)
    config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
    floating = library.module.DataType.FLOAT
    for layer, outputs in float_layers(network, source, floating):
        constrained: Any = layer
        constrained.precision = floating
        for number in outputs:
            constrained.set_output_type(number, floating)


def _timing_cache(library: Library, config: Config, content: bytes) -> TimingCache | None:
    # TensorRT-RTX measures nothing when it compiles, and warns whoever asks for its cache.
    if library.name == "tensorrt_rtx":
        return None
    cache = config.create_timing_cache(content) or config.create_timing_cache(b"")
    if cache is not None:
        config.set_timing_cache(cache, False)
    return cache


def _aim(library: Library, config: Config, compute_capability: str) -> None:
    known: Any = getattr(library.module, "ComputeCapability", None)
    aimed: Any = config
    target = getattr(known, f"SM{compute_capability.replace('.', '')}", None)
    if target is None:
        names = [name[2:] for name in dir(known) if re.fullmatch(r"SM\d+", name)]
        offered = [f"{name[:-1]}.{name[-1]}" for name in sorted(names, key=int)]
        raise CompileError(
            f"{library.title} {library.version} does not compile for compute capability {compute_capability}; it "
            f"offers {', '.join(offered) or 'the GPU at hand alone'}."
        )
    aimed.num_compute_capabilities = 1
    aimed.set_compute_capability(target, 0)


def _watch(library: Library, config: Config, progress: Report) -> None:
    base = getattr(library.module, "IProgressMonitor", None)
    if base is None or not hasattr(config, "progress_monitor"):
        return
    phases = _Phases(progress)
    watched: Any = config
    watched.progress_monitor = implementation(
        base,
        {
            "phase_start": lambda _, name, parent, steps: phases.start(name, parent, steps),
            "phase_finish": lambda _, name: phases.finish(name),
            "step_complete": lambda _, name, step: phases.step(name, step),
        },
    )


class _Phases:
    """The share that is done of phases within phases, each of a number of steps."""

    def __init__(self, progress: Report) -> None:
        self._progress = progress
        self._running: dict[str, tuple[str | None, int, int]] = {}
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._running[name] = (parent, max(steps, 1), 0)

    def finish(self, name: str) -> None:
        self._running.pop(name, None)

    def step(self, name: str, step: int) -> bool:
        """True, for the library goes on with that."""
        if name in self._running:
            parent, steps, _ = self._running[name]
            self._running[name] = (parent, steps, step + 1)
            # Phases repeat; the share never falls.
            self._share = max(self._share, self._below(None))
            self._progress(self._share)
        return True

    def _below(self, parent: str | None) -> float:
        shares = [
            (done + self._below(name)) / steps
            for name, (above, steps, done) in self._running.items()
            if above == parent
        ]
        return min(1.0, max(shares, default=0.0))
