"""Inference libraries behind one interface, each imported only when chosen."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast, get_args

from engines.backends.base import Backend, LibraryName, RawResult
from engines.backends.tiled import TiledBackend
from engines.bundle import Network
from engines.errors import BackendError

BackendName = Literal["auto", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"]

__all__ = ["Backend", "BackendName", "RawResult", "choose", "open_backend"]


def open_backend(network: Network, name: str = "auto", threads: int = 0, cache_dir: Path | None = None) -> Backend:
    """Load a network; one that works on tiles takes whole images all the same.

    Args:
        network: of a verified bundle, or of one being built.
        name: one of `BackendName`.
        threads: threads of the inference library; 0 means one per core this process may use.
        cache_dir: where compiled networks are kept for the next start; None keeps none, but for TensorRT's plans, which
            are then kept in the network's folder.

    Raises:
        BackendError: the library is not installed or not usable here, or refuses the network.
        NoPlan: TensorRT has no plan that was compiled from this network for this device.
        TilingError: the network's anomaly map does not fit the tiles.
    """
    backend = _open(network, name, threads, cache_dir)
    return backend if network.grid is None else TiledBackend(backend, network.grid, network.outputs)


def choose() -> str:
    """What `auto` means here: TensorRT where it is usable, else OpenVINO."""
    from engines.backends.tensorrt import why_unusable

    return "openvino" if why_unusable() else "tensorrt"


def _open(network: Network, name: str, threads: int, cache_dir: Path | None) -> Backend:
    if name not in get_args(BackendName):
        raise BackendError(f"There is no backend {name!r}; choose one of {', '.join(get_args(BackendName))}.")
    chosen = choose() if name == "auto" else name
    if chosen in get_args(LibraryName):
        from engines.backends.tensorrt import open_tensorrt

        return open_tensorrt(network, cast(LibraryName, chosen), cache_dir)
    if find_spec(chosen) is None:
        raise BackendError(
            f"The backend {chosen} is not installed; pip install 'unispect[cpu]' brings OpenVINO and ONNX Runtime."
        )
    if chosen == "openvino":
        from engines.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(network, threads, cache_dir)
    from engines.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(network, threads)
