"""The Open Inference Protocol, version 2, as KServe's and Triton's clients speak it. Its errors: `service.problems`."""

import asyncio
from collections.abc import Callable, Coroutine
from importlib.metadata import version as version_of
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from engines.bundle import Manifest
from engines.errors import UnispectError
from service.context import Context, context_of
from service.deadlines import remaining_seconds
from service.errors import InvalidInferRequest, NotReady, UnknownModel
from service.jobs import Result
from service.oip import InferRequest, read_request, write_answer
from service.oip_model import check_outputs, describe_tensors, images_of, needs_maps, tensors_of
from service.problems import NOT_LIVE, NOT_READY, problem_response
from service.routes.batch import inspect_all
from service.routes.inspections import parse_query

HEADER_LENGTH = "Inference-Header-Content-Length"
# Longer JSON is parsed beside the event loop.
_LONG_JSON = 2**16


class OipError(BaseModel):
    """Why a request was refused, as the protocol has it."""

    error: str


class LiveAnswer(BaseModel):
    """The service is live."""

    live: Literal[True] = True


class ReadyAnswer(BaseModel):
    """The service is ready."""

    ready: Literal[True] = True


class ModelReadyAnswer(ReadyAnswer):
    """The model is ready."""

    name: str


class ServerAnswer(BaseModel):
    """The server and the extensions of the protocol that it has."""

    name: str = "unispect"
    version: str = Field(default_factory=lambda: version_of("unispect"))
    extensions: list[str] = ["binary_tensor_data", "model_repository"]


class TensorAnswer(BaseModel):
    """A tensor of the model; -1 in its shape is the number of images."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, bool] = {}


class ModelAnswer(BaseModel):
    """The engine that serves, as a model."""

    name: str
    versions: list[str]
    platform: str = "unispect"
    inputs: list[TensorAnswer]
    outputs: list[TensorAnswer]


class _InferRoute(APIRoute):
    """Documented by FastAPI, called without it: its solving of dependencies takes longer than reading the tensors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request, **request.path_params)
            return response

        return handle


REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": OipError, "description": "The request is wrong; the error says why."},
    503: {"model": OipError, "description": "Not now; the error says why."},
}
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], responses=REFUSED)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_INFERRED = {
    "description": f"The tensors as JSON, or where binary ones are asked for, JSON of {HEADER_LENGTH} bytes and those.",
    "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": _BINARY},
}


@router.get("", summary="The server")
async def server() -> ServerAnswer:
    return ServerAnswer()


@router.get("/health/live", response_model=LiveAnswer, summary="503 when a restart is due")
async def live(request: Request) -> LiveAnswer | Response:
    health = context_of(request).health
    return LiveAnswer() if health.live else problem_response(request.scope, NOT_LIVE, health.sentence)


@router.get("/health/ready", response_model=ReadyAnswer, summary="200 when images may come")
async def ready(request: Request) -> ReadyAnswer | Response:
    health = context_of(request).health
    return ReadyAnswer() if health.ready else problem_response(request.scope, NOT_READY, health.sentence)


@router.get("/models/{model}", summary="The model's tensors")
@router.get("/models/{model}/versions/{version}", summary="The same, of one version")
async def metadata(request: Request, model: str, version: str | None = None) -> ModelAnswer:
    manifest = _served(context_of(request), model, version)
    return ModelAnswer(name=manifest.name, versions=[manifest.version], **describe_tensors(manifest))


@router.get("/models/{model}/ready", response_model=ModelReadyAnswer, summary="Whether the model may be asked")
@router.get("/models/{model}/versions/{version}/ready", response_model=ModelReadyAnswer, summary="One version of it")
async def model_ready(request: Request, model: str, version: str | None = None) -> ModelReadyAnswer | Response:
    context = context_of(request)
    manifest, health = _served(context, model, version), context.health
    if health.ready:
        return ModelReadyAnswer(name=manifest.name)
    return problem_response(request.scope, NOT_READY, health.sentence)


# The bodies are read by hand, and named in the signatures for the documentation.
async def infer(request: Request, model: str, body: InferRequest | None = None) -> Response:
    """JSON as below; with the header Inference-Header-Content-Length followed by binary tensors."""
    return await _infer(request, model, None)


async def infer_by_version(request: Request, model: str, version: str, body: InferRequest | None = None) -> Response:
    """Refused where another version serves."""
    return await _infer(request, model, version)


for _path, _endpoint in (
    ("/models/{model}/infer", infer),
    ("/models/{model}/versions/{version}/infer", infer_by_version),
):
    router.add_api_route(
        _path,
        _endpoint,
        methods=["POST"],
        summary="Inspect images",
        responses={200: _INFERRED},
        route_class_override=_InferRoute,
    )


async def _infer(request: Request, model: str, version: str | None) -> Response:
    context = context_of(request)
    _served(context, model, version)
    context.check(remaining_seconds(request))
    length = _header_length(request)
    body = await request.body()
    read = asyncio.to_thread(read_request, body, length) if (length or len(body)) > _LONG_JSON else None
    asked, tensors = read_request(body, length) if read is None else await read
    check_outputs(asked)
    images, parameters = images_of(asked, tensors, context.settings.max_images)
    queries = [parse_query(own, "inference") for own in parameters]
    pairs = list(zip(images, queries, strict=True))
    results = _all_or_error(await inspect_all(request, pairs, needs_maps(asked)))
    versions = {result.engine["version"] for _, result in results}
    if version is not None and any(version != made.engine["version"] for _, made in results if not made.repeated):
        raise NotReady(f"Version {version[:64]} of the engine was replaced meanwhile; ask again without it.")
    judged_by = versions.pop() if len(versions) == 1 else None
    answer, header = write_answer(asked, model, judged_by, tensors_of(asked, results))
    if header is None:
        return Response(answer, media_type="application/json")
    return Response(answer, headers={HEADER_LENGTH: str(header)}, media_type="application/octet-stream")


def _served(context: Context, model: str, version: str | None) -> Manifest:
    manifest = context.inspector.bundle.manifest
    if model != manifest.name:
        raise UnknownModel(f"There is no model {model[:64]!r} in service; there is {manifest.name}.")
    if version is not None and version != manifest.version:
        raise UnknownModel(
            f"The model {manifest.name} is not in service in version {version[:64]!r}; ask for {manifest.version}."
        )
    return manifest


def _header_length(request: Request) -> int | None:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise InvalidInferRequest(f"The header {HEADER_LENGTH} is {text[:32]!r}; give a number of bytes.")
    return int(text)


def _all_or_error(outcomes: list[tuple[str, Result] | UnispectError]) -> list[tuple[str, Result]]:
    """The results; raises the first error, which says of which image it is."""
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, UnispectError):
            if len(outcomes) > 1:
                outcome.args = (f"Image {number} of {len(outcomes)}: {outcome}",)
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, UnispectError)]
