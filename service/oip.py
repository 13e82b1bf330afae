"""The Open Inference Protocol, version 2: an infer request's bytes to tensors, and tensors to bytes, without HTTP.

Source: the protocol's specification (KServe, "Open Inference Protocol", REST), with the binary tensor data extension of
Triton: behind the JSON the tensors follow as bytes, little-endian, a BYTES element after its length as uint32.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from service.errors import InvalidInferRequest

BINARY_SIZE = "binary_data_size"
_BINARY_OUTPUT = "binary_data"
_BINARY_OUTPUTS = "binary_data_output"
_LENGTH = struct.Struct("<I")
# Beyond it a body of empty elements would cost seconds; no service takes as many images at once.
_MOST_ELEMENTS = 4096
# Of the protocol's types those that this service answers with.
_DTYPES = {"BOOL": np.dtype(np.bool_), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}


class InferInput(BaseModel):
    """A tensor of a request; its data are in `data`, or behind the JSON."""

    name: str
    datatype: str
    shape: list[Annotated[int, Field(ge=0)]]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = Field(None, max_length=_MOST_ELEMENTS)


class InferOutput(BaseModel):
    """A tensor that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """The JSON of a request."""

    id: str | None = Field(None, max_length=256)
    parameters: dict[str, Any] = {}
    inputs: list[InferInput] = Field(min_length=1, max_length=16)
    outputs: list[InferOutput] | None = Field(None, max_length=64)

    def binary(self, output: str) -> bool:
        """Whether a tensor of the answer is to be behind the JSON."""
        asked = next((one for one in self.outputs or () if one.name == output), None)
        default = self.parameters.get(_BINARY_OUTPUTS, False)
        return bool(default if asked is None else asked.parameters.get(_BINARY_OUTPUT, default))


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of an answer.

    Attributes:
        datatype: BYTES, BOOL, FP32 or FP64.
        values: an array, or for BYTES the elements of a one-dimensional tensor.
        text: BYTES that are UTF-8; others are written to JSON in base64.
    """

    name: str
    datatype: str
    values: NDArray[Any] | list[bytes]
    text: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape if isinstance(self.values, np.ndarray) else (len(self.values),)

    def to_bytes(self) -> bytes:
        """As the binary tensor data extension has it."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype(_DTYPES[self.datatype], copy=False).tobytes()
        return b"".join(part for element in self.values for part in (_LENGTH.pack(len(element)), element))

    def to_json(self) -> list[Any] | NDArray[Any]:
        """Flat, in row-major order."""
        if isinstance(self.values, np.ndarray):
            return np.ascontiguousarray(self.values).reshape(-1)
        return [(element if self.text else base64.b64encode(element)).decode() for element in self.values]


def read_request(body: bytes, header_length: int | None) -> tuple[InferRequest, dict[str, list[bytes]]]:
    """A request and its tensors, all of which are BYTES [N], by name.

    In JSON an element of a tensor with the parameter `"content_type": "base64"` is base64, else text.

    Args:
        body: of the HTTP request.
        header_length: bytes of its JSON (Inference-Header-Content-Length); None where all of it is JSON.

    Raises:
        InvalidInferRequest: it is not of the protocol, or has tensors that this service does not take.
    """
    end = len(body) if header_length is None else header_length
    if end > len(body):
        raise InvalidInferRequest(
            f"The header Inference-Header-Content-Length says {end} bytes and the body has {len(body)}; send all of it."
        )
    try:
        request = InferRequest.model_validate(orjson.loads(memoryview(body)[:end]))
    except orjson.JSONDecodeError as error:
        raise InvalidInferRequest(
            f"The request is no JSON ({error.msg}); where tensors follow it, give Inference-Header-Content-Length."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "request"
        raise InvalidInferRequest(
            f"The request's {place[:64]!r} is not as the protocol has it: {first['msg']}."
        ) from error
    tensors: dict[str, list[bytes]] = {}
    for tensor in request.inputs:
        if tensor.name in tensors:
            raise InvalidInferRequest(f"The input {tensor.name[:64]!r} is there twice; give it once.")
        if tensor.datatype != "BYTES":
            raise InvalidInferRequest(
                f"The input {tensor.name[:64]!r} has the datatype {tensor.datatype[:32]!r}; give BYTES."
            )
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            elements = _json_elements(tensor)
        else:
            start, end = end, end + _size(tensor, size, len(body) - end)
            elements = _binary_elements(tensor, body, start, end)
        if tensor.shape != [len(elements)]:
            raise InvalidInferRequest(
                f"The input {tensor.name[:64]!r} has {len(elements)} elements and the shape {str(tensor.shape)[:64]}; "
                f"give the shape [{len(elements)}]."
            )
        tensors[tensor.name] = elements
    if end != len(body):
        raise InvalidInferRequest(f"{len(body) - end} bytes of the body belong to no input; mend {BINARY_SIZE}.")
    return request, tensors


def write_answer(
    request: InferRequest, model: str, version: str | None, tensors: Sequence[Tensor]
) -> tuple[bytes, int | None]:
    """The body of an answer, and the bytes of its JSON; None where all of it is JSON.

    Args:
        version: of the model; None leaves it out.
    """
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for tensor in tensors:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.binary(tensor.name):
            tail.append(tensor.to_bytes())
            output["parameters"] = {BINARY_SIZE: len(tail[-1])}
        else:
            output["data"] = tensor.to_json()
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model, "outputs": outputs}
    if version is not None:
        answer["model_version"] = version
    if request.id is not None:
        answer["id"] = request.id
    header = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((header, *tail)), len(header)) if tail else (header, None)


def _size(tensor: InferInput, size: object, left: int) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= left:
        raise InvalidInferRequest(
            f"The input {tensor.name[:64]!r} has the {BINARY_SIZE} {str(size)[:32]}, which is no number of bytes from "
            f"0 to the {left} that the body has left; mend it."
        )
    return size


def _json_elements(tensor: InferInput) -> list[bytes]:
    if tensor.data is None:
        raise InvalidInferRequest(
            f"The input {tensor.name[:64]!r} has neither data nor {BINARY_SIZE}; shared memory is not served."
        )
    if not all(isinstance(element, str) for element in tensor.data):
        raise InvalidInferRequest(f"The input {tensor.name[:64]!r} has data that are not strings; give BYTES as such.")
    if tensor.parameters.get("content_type") != "base64":
        return [element.encode() for element in tensor.data]
    try:
        return [base64.b64decode(element, validate=True) for element in tensor.data]
    except (binascii.Error, ValueError) as error:
        raise InvalidInferRequest(f"The input {tensor.name[:64]!r} is not base64 ({error}).") from error


def _binary_elements(tensor: InferInput, body: bytes, start: int, end: int) -> list[bytes]:
    elements: list[bytes] = []
    while start < end:
        begin = start + _LENGTH.size
        stop = begin + _LENGTH.unpack_from(body, start)[0] if begin <= end else end + 1
        if stop > end:
            raise InvalidInferRequest(
                f"The input {tensor.name[:64]!r} ends within element {len(elements)}; give each its length as 4 bytes."
            )
        if len(elements) == _MOST_ELEMENTS:
            raise InvalidInferRequest(f"The input {tensor.name[:64]!r} has over {_MOST_ELEMENTS} elements; send fewer.")
        elements.append(body[begin:stop])
        start = stop
    return elements
