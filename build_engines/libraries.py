"""Versions of what a build depends on, for its records."""

import platform
from importlib.metadata import PackageNotFoundError, version

_NAMES = ("unispect", "torch", "numpy", "opencv-python-headless", "onnx", "openvino", "onnxruntime", "lightning-fabric")


def versions() -> dict[str, str]:
    """Distribution name to version, of those installed; Python too."""
    found = {"python": platform.python_version()}
    for name in _NAMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
