"""Blocks of a network: what sensitivity is measured of, and what can be kept in floating point.

A block is a residual block or a convolution outside of one, named by its module path in the method: `student.layer3.1`.
"""

from collections.abc import Iterable, Mapping

from onnx import ModelProto

from build_engines.errors import QuantizationError
from build_engines.quantization import qdq

AUTO = "auto:"
_ROOT = "method"


def blocks_of(model: ModelProto) -> dict[str, tuple[str, ...]]:
    """Block name to the names of its convolutions, in the order of the graph, of a float graph as it was exported."""
    placement = qdq.place(model)
    # What teacher, student or method itself adds is no residual but a sum of outputs.
    residual = {scope for scope in map(_scope, placement.identities) if len(scope) > 1}
    found: dict[str, list[str]] = {}
    for layer in placement.layers:
        scope = _scope(layer)
        inside = [path for path in residual if path == scope[: len(path)]]
        found.setdefault(".".join(max(inside, key=len, default=scope)), []).append(layer)
    return {name: tuple(layers) for name, layers in found.items()}


def named_blocks(asked: str, known: Iterable[str]) -> list[str]:
    """Block names from `A,B,C`. Raises QuantizationError where one is unknown."""
    names = list(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    known = list(known)
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None or not names:
        what = "names no block" if wrong is None else f"names a block {wrong!r} that the network does not have"
        raise QuantizationError(f"--keep-fp16 {what}; say {AUTO}N or some of {', '.join(known)}.")
    return names


def automatic(asked: str, known: Iterable[str]) -> int | None:
    """N of `auto:N`, None of anything else. Raises QuantizationError where it is no number of blocks."""
    if not asked.startswith(AUTO):
        return None
    count = len(list(known))
    text = asked.removeprefix(AUTO)
    if not text.isdecimal() or not 1 <= int(text) <= count:
        raise QuantizationError(f"--keep-fp16 {asked!r}: give a number of blocks from 1 to {count} after {AUTO}.")
    return int(text)


def layers_of(names: Iterable[str], blocks: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The convolutions of some blocks."""
    return [layer for name in names for layer in blocks[name]]


def _scope(node: str) -> tuple[str, ...]:
    """The module path of an exported node: `/method/student/layer1/layer1.0/conv1/Conv` is student.layer1.0.conv1."""
    path: list[str] = []
    before = ""
    for part in node.strip("/").split("/")[:-1]:
        # The exporter repeats a container's name in its children's.
        path += part.removeprefix(f"{before}.").split(".") if before else part.split(".")
        before = part
    return tuple(path[1:] if path[:1] == [_ROOT] else path)
