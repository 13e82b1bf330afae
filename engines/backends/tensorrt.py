"""TensorRT: whether it is usable here. Compiling plans and running them on the device is not written yet."""

from importlib.util import find_spec
from typing import NoReturn

from engines.bundle import Network
from engines.errors import BackendError


def why_unusable() -> str | None:
    """The reason why `auto` passes TensorRT by on this machine; None where it is usable."""
    missing = [name for name in ("tensorrt", "pycuda") if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    return "this version of unispect cannot compile TensorRT plans yet"


def open_tensorrt(network: Network) -> NoReturn:
    """Raises BackendError, with the reason."""
    raise BackendError(
        f"TensorRT cannot run {network.path} here ({why_unusable()}); choose the backend openvino or auto."
    )
