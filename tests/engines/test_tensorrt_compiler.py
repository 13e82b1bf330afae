"""What a weakly typed compiler, TensorRT 8.5's or 10's, is told: flags, types of layers, batches, what it measured.

None can be installed here. The one below has their names and no others, and makes a layer of each node as their parser
does; the strongly typed one is real, in test_compile_rtx.
"""

from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from engines.backends.tensorrt_compiler import Source, Target, compile_source
from engines.backends.tensorrt_library import Library
from engines.bundle import ImageInput
from engines.errors import CompileError
from engines.half_precision import head, trunk
from engines.onnx_graph import title
from engines.plan_records import PlanPrecision, Profile
from engines.tensorrt_form import for_tensorrt
from tests import untrained
from tests.engines.tensorrt_names import V8_5_2


def enumeration(cls: str) -> type[IntEnum]:
    return IntEnum(cls, {name: number for number, name in enumerate(sorted(V8_5_2[cls]))})


class Weak:
    """TensorRT 8.5 as a module; `config` and `network` are what the last compilation made."""

    __version__ = "8.5.2.2"
    BuilderFlag = enumeration("BuilderFlag")
    DataType = enumeration("DataType")
    MemoryPoolType = enumeration("MemoryPoolType")
    NetworkDefinitionCreationFlag = enumeration("NetworkDefinitionCreationFlag")
    ProfilingVerbosity = enumeration("ProfilingVerbosity")

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.network: Any = None
        self.config: Any = None

    def Builder(self, logger: object) -> Any:
        return SimpleNamespace(
            create_network=self._create_network,
            create_builder_config=self._create_config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=self._set_shape),
            build_serialized_network=lambda network, config: None if self.refuses else b"plan",
        )

    def OnnxParser(self, network: Any, logger: object) -> Any:
        def parse(content: bytes) -> bool:
            model = onnx.load_from_string(content)
            for tensor in model.graph.initializer:
                kind = "FLOAT" if tensor.data_type == onnx.TensorProto.FLOAT else "INT32"
                network.layers.append(self._layer(tensor.name, [], [f"{tensor.name}_output"], kind))
            constants = {tensor.name for tensor in model.graph.initializer}
            for node in model.graph.node:
                read = [f"{name}_output" if name in constants else name for name in node.input if name]
                network.layers.append(self._layer(node.name, read, list(node.output), "FLOAT"))
            network.num_layers = len(network.layers)
            return True

        return SimpleNamespace(parse=parse, num_errors=0)

    def _create_network(self, flags: int) -> Any:
        self.network = SimpleNamespace(flags=flags, layers=[], num_layers=0)
        self.network.get_layer = lambda index: self.network.layers[index]
        return self.network

    def _create_config(self) -> Any:
        self.config = SimpleNamespace(flags={self.BuilderFlag.TF32}, profiles=[], pools={}, caches=[])
        self.config.set_flag = self.config.flags.add
        self.config.clear_flag = self.config.flags.discard
        self.config.set_memory_pool_limit = self.config.pools.__setitem__
        self.config.add_optimization_profile = self.config.profiles.append
        self.config.create_timing_cache = lambda content: SimpleNamespace(serialize=lambda: content + b" and more")
        self.config.set_timing_cache = lambda cache, ignore: self.config.caches.append(cache)
        return self.config

    def _set_shape(self, *shapes: object) -> None:
        self.shapes = shapes

    def _layer(self, name: str, read: list[str], given: list[str], kind: str) -> Any:
        tensors = [SimpleNamespace(name=one, dtype=self.DataType[kind]) for one in given]
        layer = SimpleNamespace(name=name, num_inputs=len(read), num_outputs=len(given), precision=None, types={})
        layer.get_input = lambda index: SimpleNamespace(name=read[index])
        layer.get_output = lambda index: tensors[index]
        layer.set_output_type = layer.types.__setitem__
        return layer


def compiled(module: Weak, model: onnx.ModelProto, precision: PlanPrecision, cache: bytes = b"") -> bytes:
    library = Library.__new__(Library)
    library.name, library.title, library.version = "tensorrt", "TensorRT", module.__version__
    library.module, library.logger, library._errors = module, None, ["[E] no tactic for this layer"]  # type: ignore[assignment]
    source = Source(
        model=model.SerializeToString(),
        titles=[title(node) for node in model.graph.node],
        tensors={name for node in model.graph.node for name in node.output},
        input=ImageInput(name="images", height=untrained.SIZE, width=untrained.SIZE),
        precision=precision,
        float_tensors=head(model),
    )
    return compile_source(library, source, Target(Profile(preferred=2, largest=4), 2**28), cache).timing_cache


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        ("fp32", set()),
        ("fp16", {"FP16", "OBEY_PRECISION_CONSTRAINTS"}),
        ("int8", {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}),
    ],
)
def test_precision_is_flags_and_no_tf32(precision: PlanPrecision, flags: set[str]) -> None:
    module = Weak()
    model = untrained.exported("us").model
    compiled(module, for_tensorrt(untrained.quantized("us")) if precision == "int8" else model, precision)
    assert {flag.name for flag in module.config.flags} == flags
    assert any(layer.precision is not None for layer in module.network.layers) == (precision != "fp32")


@pytest.mark.parametrize("method", untrained.NAMES)
def test_the_head_and_its_constants_are_held_in_float_and_nothing_else(method: str) -> None:
    module, model = Weak(), untrained.exported(method).model
    compiled(module, model, "fp16")
    held = {layer.get_output(0).name for layer in module.network.layers if layer.precision is not None}
    assert head(model) <= held
    assert not held & trunk(model)
    floating = Weak.DataType.FLOAT
    for layer in module.network.layers:
        if layer.precision is not None:
            assert layer.precision == floating
            assert layer.types == {0: floating}
    epsilons = {
        f"{tensor.name}_output"
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and onnx.numpy_helper.to_array(tensor).max(initial=1) < 1e-7
    }
    assert epsilons <= held
    weights = {f"{node.input[1]}_output" for node in model.graph.node if node.op_type == "Conv"}
    assert not held & weights


def test_batches_workspace_and_measurements_are_handed_over() -> None:
    module = Weak()
    assert compiled(module, untrained.exported("us").model, "fp32", b"measured") == b"measured and more"
    size = (untrained.SIZE, untrained.SIZE, 3)
    assert module.shapes == ("images", (1, *size), (2, *size), (4, *size))
    assert len(module.config.profiles) == len(module.config.caches) == 1
    assert module.config.pools == {Weak.MemoryPoolType.WORKSPACE: 2**28}
    assert module.network.flags == 1 << Weak.NetworkDefinitionCreationFlag.EXPLICIT_BATCH


def test_a_compiler_that_gives_up_is_quoted() -> None:
    with pytest.raises(CompileError, match=r"TensorRT 8\.5\.2\.2 cannot compile the network .*: it does not say why\."):
        compiled(Weak(refuses=True), untrained.exported("us").model, "fp32")
