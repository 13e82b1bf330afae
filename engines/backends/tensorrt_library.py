"""TensorRT 8.5, 10, 11 or TensorRT-RTX, loaded and checked: where their versions differ, it is said here."""

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from engines.backends.base import LibraryName
from engines.backends.tensorrt_interface import Context, Engine, TensorRt, missing_names
from engines.errors import BackendError

Log = Callable[[str, str], None]

# The first version, and the first that is too new.
SUPPORTED: Mapping[LibraryName, tuple[tuple[int, int], tuple[int, int]]] = {
    "tensorrt": ((8, 5), (12, 0)),
    "tensorrt_rtx": ((1, 0), (2, 0)),
}
_MODULES: Mapping[LibraryName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_TITLES: Mapping[LibraryName, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


def module_name(library: LibraryName) -> str | None:
    """The module that is installed of a library; None where none is."""
    return next((name for name in _MODULES[library] if find_spec(name) is not None), None)


class Library:
    """An installed library.

    Args:
        name: which one.
        log: gets severity and message of each line that the library logs, all but the most verbose ones.

    Attributes:
        module: its Python module.
        title: its name in messages.
        version: in full.
        logger: what its objects are made with.

    Raises BackendError where it is not installed, does not load, or is of a version that is not supported.
    """

    def __init__(self, name: LibraryName, log: Log | None = None) -> None:
        self.name = name
        self.title = _TITLES[name]
        found = module_name(name)
        if found is None:
            raise BackendError(f"{self.title} is not installed here; choose the backend openvino or auto.")
        try:
            self.module = cast(TensorRt, import_module(found))
        except (ImportError, OSError) as error:
            raise BackendError(
                f"{self.title} is installed and does not load ({on_one_line(error)}); install it again."
            ) from error
        self.version = str(self.module.__version__)
        self._require_supported()
        self._errors: list[str] = []
        self._log = log
        self.logger = self._make_logger()

    @property
    def strongly_typed(self) -> bool:
        """Whether types are the graph's, and not the compiler's choice: TensorRT from 11 on, and TensorRT-RTX."""
        return not hasattr(self.module.BuilderFlag, "FP16")

    @property
    def compiles_without_gpu(self) -> bool:
        """Whether it compiles for a named compute capability; TensorRT measures on the very GPU."""
        return self.name == "tensorrt_rtx"

    @property
    def has_native_graphs(self) -> bool:
        """Whether it captures CUDA graphs by itself, as TensorRT-RTX does."""
        return self.name == "tensorrt_rtx" and hasattr(self.module, "CudaGraphStrategy")

    @property
    def last_error(self) -> str:
        """What the library logged last as an error since `forget_errors`, on one line."""
        return self._errors[-1] if self._errors else "it does not say why"

    def forget_errors(self) -> None:
        """Before a call of which `last_error` shall tell."""
        self._errors.clear()

    def load(self, plan: bytes) -> Engine:
        """Load a plan onto the GPU whose context is current. Raises BackendError where the library refuses it."""
        self.forget_errors()
        engine = self.module.Runtime(self.logger).deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(
                f"{self.title} {self.version} refuses the plan ({self.last_error}); compile it again on this device."
            )
        return engine

    def create_context(self, engine: Engine, native_graphs: bool = False) -> Context:
        """An execution context.

        Args:
            native_graphs: let the library capture CUDA graphs by itself, see `has_native_graphs`.

        Raises BackendError where the library refuses, most often for want of memory.
        """
        self.forget_errors()
        if native_graphs:
            settings = cast(Any, engine).create_runtime_config()
            settings.cuda_graph_strategy = cast(Any, self.module).CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = cast(Context | None, cast(Any, engine).create_execution_context(settings))
        else:
            context = engine.create_execution_context()
        if context is None:
            raise BackendError(
                f"{self.title} {self.version} cannot get ready to run a plan ({self.last_error}); free its memory."
            )
        return context

    def layer_information(self, engine: Engine) -> str:
        """What each layer of a plan is and how it computes, as JSON."""
        return str(engine.create_engine_inspector().get_engine_information(self.module.LayerInformationFormat.JSON))

    def tensors(self, engine: Engine) -> dict[str, tuple[bool, str, tuple[int, ...]]]:
        """Of each input and output: whether it is an input, its type (`UINT8`, `FLOAT`, ...) and its shape."""
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return {
            name: (
                engine.get_tensor_mode(name) == self.module.TensorIOMode.INPUT,
                str(engine.get_tensor_dtype(name)).rpartition(".")[2],
                tuple(engine.get_tensor_shape(name)),
            )
            for name in names
        }

    def _require_supported(self) -> None:
        first, beyond = SUPPORTED[self.name]
        numbers = re.findall(r"\d+", self.version)
        if len(numbers) < 2 or not first <= (int(numbers[0]), int(numbers[1])) < beyond:
            raise BackendError(
                f"{self.title} {self.version} is installed, and this unispect runs {first[0]}.{first[1]} up to below "
                f"{beyond[0]}; install one of these."
            )
        missing = missing_names(self.module)
        if missing:
            raise BackendError(
                f"{self.title} {self.version} lacks {missing[0]} ({len(missing)} names in all); install a complete one."
            )

    def _make_logger(self) -> object:
        severities = {int(getattr(self.module.ILogger, name)): name for name in _SEVERITIES}

        def log(_: object, severity: int, message: str) -> None:
            name = severities.get(int(severity), "VERBOSE")
            if name in ("INTERNAL_ERROR", "ERROR"):
                self._errors.append(on_one_line(message))
            if self._log is not None and name != "VERBOSE":
                self._log(name, message)

        return implementation(self.module.ILogger, {"log": log})


def implementation(base: Any, methods: Mapping[str, Callable[..., object]]) -> object:
    """An object that implements an interface of the library's, which takes no other and exists only once imported."""

    def start(self: object) -> None:
        base.__init__(self)

    made: object = type(base.__name__, (base,), {"__init__": start, **methods})()
    return made


def on_one_line(message: object) -> str:
    """A library's message as part of a sentence."""
    return " ".join(str(message).split()).rstrip(".")
