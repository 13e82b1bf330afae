"""The served engine as a model of the Open Inference Protocol: which tensors it takes and gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from engines.bundle import Manifest
from service.errors import InvalidInferRequest, NotReady
from service.jobs import Result
from service.oip import InferRequest, Tensor

IMAGE = "image"
# Beside the image, for each one, as inputs of the same length or as parameters of the request, for all of them.
PER_IMAGE = ("part_class", "part_id")
PARAMETERS = (*PER_IMAGE, "station")
_OVERLAY = "overlay"
_ANOMALY_MAP = "anomaly_map"
# Parameters of the protocol and its usual extensions, which change nothing here.
_PROTOCOL = frozenset(
    {"binary_data_output", "content_type", "headers", "priority", "timeout"}
    | {"sequence_id", "sequence_start", "sequence_end"}
)


@dataclass(frozen=True, slots=True)
class _Column:
    """One value for each image.

    Attributes:
        value: from an inspection's id and result; bytes for BYTES.
        on_request: too long, or too slow, to be given to who does not name it.
        text: BYTES that are UTF-8.
    """

    datatype: str
    value: Callable[[str, Result], Any]
    on_request: bool = False
    text: bool = True


_COLUMNS = {
    "verdict": _Column("BYTES", lambda _, result: result.inspection.verdict.encode()),
    "score": _Column("FP64", lambda _, result: result.inspection.score),
    "threshold": _Column("FP64", lambda _, result: result.inspection.threshold),
    "p_value": _Column("FP64", lambda _, result: result.inspection.p_value),
    "part_class": _Column("BYTES", lambda _, result: result.inspection.part_class.encode()),
    "unknown_part": _Column("BOOL", lambda _, result: result.inspection.unknown_part),
    "regions": _Column("BYTES", lambda _, result: orjson.dumps(result.inspection.regions)),
    "id": _Column("BYTES", lambda id_, _: id_.encode()),
    "engine_version": _Column("BYTES", lambda _, result: result.engine["version"].encode()),
    _ANOMALY_MAP: _Column("FP32", lambda _, result: result.inspection.anomaly_map, on_request=True),
    _OVERLAY: _Column(
        "BYTES", lambda _, result: result.heatmap.png if result.heatmap else b"", on_request=True, text=False
    ),
}


def describe_tensors(manifest: Manifest) -> dict[str, list[dict[str, Any]]]:
    """`inputs` and `outputs` as in a model's metadata; -1 is the number of images."""
    shapes = {_ANOMALY_MAP: [-1, *manifest.map_size]}
    return {
        "inputs": [
            {"name": IMAGE, "datatype": "BYTES", "shape": [-1]},
            *(
                {"name": name, "datatype": "BYTES", "shape": [-1], "parameters": {"optional": True}}
                for name in PER_IMAGE
            ),
        ],
        "outputs": [
            {
                "name": name,
                "datatype": column.datatype,
                "shape": shapes.get(name, [-1]),
                **({"parameters": {"on_request": True}} if column.on_request else {}),
            }
            for name, column in _COLUMNS.items()
        ],
    }


def images_of(
    request: InferRequest, tensors: dict[str, list[bytes]], most: int
) -> tuple[list[bytes], list[dict[str, str]]]:
    """The images of a request, and for each the parameters of its inspection, not yet validated.

    Raises:
        InvalidInferRequest: no image or more than `most`, another input or parameter than the model has, or an input
            of another length.
    """
    images = tensors.get(IMAGE)
    if not images or len(images) > most:
        raise InvalidInferRequest(
            f"The request has {len(images or ())} images; give 1 to {most} in the input {IMAGE!r}."
        )
    if unknown := tensors.keys() - {IMAGE, *PER_IMAGE}:
        raise InvalidInferRequest(f"There is no input {min(unknown)[:64]!r}; give {IMAGE}, {' or '.join(PER_IMAGE)}.")
    if unknown := {name for name in request.parameters if not name.startswith("triton_")} - {*PARAMETERS, *_PROTOCOL}:
        raise InvalidInferRequest(f"There is no parameter {min(unknown)[:64]!r}; there is {', '.join(PARAMETERS)}.")
    common = {name: str(value) for name, value in request.parameters.items() if name in PARAMETERS}
    own: list[dict[str, str]] = [dict(common) for _ in images]
    for name in tensors.keys() & set(PER_IMAGE):
        if len(tensors[name]) != len(images):
            raise InvalidInferRequest(
                f"The input {name!r} has {len(tensors[name])} elements for {len(images)} images; give one for each."
            )
        for asked, element in zip(own, tensors[name], strict=True):
            if element:
                asked[name] = _text(name, element)
    if _OVERLAY in _named(request):
        for asked in own:
            asked["heatmap"] = _OVERLAY
    return images, own


def tensors_of(request: InferRequest, results: Sequence[tuple[str, Result]]) -> list[Tensor]:
    """The tensors that a request asks for; without a word of it all but those on request.

    Raises NotReady where engines took turns whose maps make no tensor together.
    """
    names = _named(request) or [name for name, column in _COLUMNS.items() if not column.on_request]
    return [_tensor(name, _COLUMNS[name], results) for name in names]


def check_outputs(request: InferRequest) -> None:
    """Raises InvalidInferRequest where an output is asked for that the model does not have."""
    if unknown := set(_named(request)) - _COLUMNS.keys():
        raise InvalidInferRequest(f"There is no output {min(unknown)[:64]!r}; there is {', '.join(_COLUMNS)}.")


def needs_maps(request: InferRequest) -> bool:
    """Whether the anomaly maps are asked for."""
    return _ANOMALY_MAP in _named(request)


def _named(request: InferRequest) -> list[str]:
    return list(dict.fromkeys(output.name for output in request.outputs or ()))


def _tensor(name: str, column: _Column, results: Sequence[tuple[str, Result]]) -> Tensor:
    values = [column.value(id_, result) for id_, result in results]
    if name == _ANOMALY_MAP and len({anomaly_map.shape for anomaly_map in values}) > 1:
        raise NotReady("An engine with maps of another size was put into service meanwhile; send the request again.")
    return Tensor(name, column.datatype, values if column.datatype == "BYTES" else np.array(values), column.text)


def _text(name: str, element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InvalidInferRequest(f"The input {name!r} has an element that is not UTF-8; mend it.") from error
