"""What is used of TensorRT is what every version has: by their lists, and by a real library where one is installed."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from engines.backends.tensorrt_interface import OPTIONAL, WEAKLY_TYPED, missing_names, required_names
from engines.backends.tensorrt_library import Library, module_name
from engines.errors import BackendError
from tests.engines.tensorrt_names import VERSIONS, Names

RTX = module_name("tensorrt_rtx") is not None
needs_rtx = pytest.mark.skipif(not RTX, reason="TensorRT-RTX is not installed: pip install 'unispect[trt-check]'")


def module_of(names: Names) -> SimpleNamespace:
    """Something that has these names and no others."""
    return SimpleNamespace(**{cls: SimpleNamespace(**dict.fromkeys(listed)) for cls, listed in names.items()})


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_used_is_one_that_the_version_has(version: str) -> None:
    assert missing_names(module_of(VERSIONS[version])) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_weakly_typed_where_it_has_flags_for_precision(version: str) -> None:
    assert ("FP16" in VERSIONS[version]["BuilderFlag"]) == (version != "11.4")
    constraints = all(set(names) <= VERSIONS[version][cls] for cls, names in WEAKLY_TYPED.items())
    assert constraints == (version != "11.4")


def test_no_name_that_a_later_version_dropped_is_used_everywhere() -> None:
    dropped = {
        f"{cls}.{name}" for cls, names in VERSIONS["8.5.2"].items() for name in names - VERSIONS["11.4"].get(cls, names)
    }
    assert {"IExecutionContext.execute_async_v2", "ICudaEngine.get_binding_shape", "BuilderFlag.INT8"} <= dropped
    used = {f"{cls}.{name}" for cls, names in required_names(weakly_typed=False).items() for name in names}
    assert not used & dropped


def test_what_a_version_lacks_is_named() -> None:
    old = {**VERSIONS["8.5.2"], "IExecutionContext": frozenset({"execute_async_v2", "set_tensor_address"})}
    assert missing_names(module_of(old)) == ["IExecutionContext.execute_async_v3", "IExecutionContext.set_input_shape"]


@needs_rtx
def test_a_real_library_has_every_name() -> None:
    library = Library("tensorrt_rtx")
    assert missing_names(library.module) == []
    offered = {f"{cls}.{name}" for cls, names in OPTIONAL.items() for name in names}
    has = {one for one in offered if hasattr(getattr(library.module, one.split(".")[0], None), one.split(".")[1])}
    assert offered - has == {"NetworkDefinitionCreationFlag.EXPLICIT_BATCH"}
    assert library.strongly_typed
    assert library.has_native_graphs


@needs_rtx
@pytest.mark.parametrize(("version", "message"), [("2.3.0", "runs 1.0 up to below 2"), ("unknown", "runs 1.0")])
def test_another_version_is_refused(version: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library("tensorrt_rtx").module, "__version__", version)
    with pytest.raises(BackendError, match=message):
        Library("tensorrt_rtx")


@pytest.mark.parametrize(
    ("version", "names", "message"),
    [
        ("8.4.3", VERSIONS["8.5.2"], r"TensorRT 8\.4\.3 is installed, and this unispect runs 8\.5 up to below 12"),
        ("12.1.0", VERSIONS["11.4"], "up to below 12; install one of these"),
        ("8.5.2", {**VERSIONS["8.5.2"], "Runtime": frozenset()}, "lacks Runtime.deserialize_cuda_engine"),
    ],
)
def test_a_library_that_cannot_be_used_is_refused_in_one_sentence(
    version: str, names: Names, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(names)
    module.__version__ = version
    monkeypatch.setattr("engines.backends.tensorrt_library.module_name", lambda _: "tensorrt")
    monkeypatch.setattr("engines.backends.tensorrt_library.import_module", lambda _: module)
    with pytest.raises(BackendError, match=message):
        Library("tensorrt")


def test_a_library_that_does_not_load_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> object:
        raise ImportError("libnvinfer.so.8: cannot open shared object file:\nNo such file")

    monkeypatch.setattr("engines.backends.tensorrt_library.module_name", lambda _: "tensorrt")
    monkeypatch.setattr("engines.backends.tensorrt_library.import_module", broken)
    with pytest.raises(BackendError, match=r"does not load \(libnvinfer.so.8: .*file: No such file\); install"):
        Library("tensorrt")


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_a_library_that_is_not_installed_is_said() -> None:
    with pytest.raises(BackendError, match="TensorRT is not installed here; choose the backend openvino or auto"):
        Library("tensorrt")
