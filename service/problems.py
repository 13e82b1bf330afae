"""Errors as RFC 9457 problem documents; the one place where an error gets its HTTP status."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from engines import errors as engine
from service import errors as own
from service.exchange import exchange_of

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(description="A stable URI per kind of problem, for programs.")
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request and how to mend it.")
    instance: str = Field(description="The request's id, as in the header X-Request-ID and in the log.")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. `slug` ends its type URI and is the request's outcome in the metrics."""

    slug: str
    status: int
    title: str
    retry_after_seconds: int | None = None


INTERNAL = Kind("internal-error", 500, "Internal error")
NOT_READY = Kind("not-ready", 503, "Not ready", 1)
NOT_LIVE = Kind("not-live", 503, "Restart due")
INVALID_REQUEST = Kind("invalid-request", 422, "Invalid request")
KINDS: Mapping[type[engine.UnispectError], Kind] = {
    engine.UnsupportedImage: Kind("unsupported-image", 415, "Not an image"),
    engine.ImageTooLarge: Kind("image-too-large", 413, "Image too large"),
    engine.UndecodableImage: Kind("undecodable-image", 422, "Undecodable image"),
    engine.UnknownPartClass: Kind("unknown-part-class", 422, "Unknown part class"),
    engine.BackendError: Kind("engine-failed", 503, "Engine failed", 10),
    own.NotReady: NOT_READY,
    own.QueueFull: Kind("queue-full", 503, "Queue full", 1),
    own.BodyTooLarge: Kind("body-too-large", 413, "Body too large"),
    own.WrongContentType: Kind("wrong-content-type", 415, "Wrong Content-Type"),
    own.InvalidForm: Kind("invalid-form", 422, "Invalid form"),
}


def problem_response(
    scope: Scope,
    kind: Kind,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    model: type[Problem] = Problem,
    **members: object,
) -> Response:
    """The answer for a problem of a request; notes its outcome for the log and the metrics.

    Args:
        members: that `model` has beyond those of every problem.
    """
    exchange = exchange_of(scope)
    exchange.outcome, exchange.detail = kind.slug, detail
    problem = model(
        type=f"urn:unispect:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=exchange.request_id,
        **members,
    )
    response = Response(problem.model_dump_json(), kind.status, headers, MEDIA_TYPE)
    if kind.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(kind.retry_after_seconds)
    return response


def error_response(scope: Scope, error: engine.UnispectError) -> Response:
    """The answer for an error of the runtime or of the service."""
    kind = next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), INTERNAL)
    return problem_response(scope, kind, str(error))


def internal_error_response(scope: Scope) -> Response:
    """The answer for an error nobody foresaw: it says where to look and nothing of the inside."""
    request_id = exchange_of(scope).request_id
    return problem_response(
        scope, INTERNAL, f"The service failed on this request; its log says why under request id {request_id}."
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    @app.exception_handler(engine.UnispectError)
    async def known(request: Request, error: engine.UnispectError) -> Response:
        return error_response(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request.scope, INVALID_REQUEST, _invalid_sentence(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        kind = Kind(phrase.lower().replace(" ", "-"), error.status_code, phrase)
        return problem_response(request.scope, kind, _http_sentence(request, error), error.headers)


def _invalid_sentence(error: RequestValidationError) -> str:
    first: Mapping[str, Any] = error.errors()[0]
    where, *name = first["loc"]
    given = "" if first["type"] in ("missing", "extra_forbidden") else f" is {str(first['input'])[:64]!r}"
    return (
        f"The {where} parameter {'.'.join(map(str, name))[:64]!r}{given}: {first['msg']}; /docs lists the parameters."
    )


def _http_sentence(request: Request, error: HTTPException) -> str:
    path = request.url.path[:200]
    match error.status_code:
        case 404:
            return f"There is nothing at {path}; /docs lists what there is."
        case 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            return f"{request.method[:16]} is not possible at {path}; use {allowed}."
        case _:
            return f"The request to {path} was refused: {error.detail}."
