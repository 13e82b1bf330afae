"""Errors as RFC 9457 problem documents; the one place where an error gets its HTTP status."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from engines import errors as engine
from service import errors as own
from service.exchange import exchange_of

MEDIA_TYPE = "application/problem+json"
_OPEN_INFERENCE = re.compile(r"/v2(/|$)")


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(description="A stable URI per kind of problem, for programs.")
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request and how to mend it.")
    instance: str = Field(description="The request's id, as in the header X-Request-ID and in the log.")


# Of an answer in a route's `responses`.
PROBLEM: Mapping[str, Any] = {"content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}


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
MALFORMED = Kind("bad-request", 400, "Not HTTP")
HEADERS_TOO_LARGE = Kind("headers-too-large", 431, "Headers too large")
HEADERS_TOO_SLOW = Kind("headers-too-slow", 408, "Headers too slow")
INVALID_REQUEST = Kind("invalid-request", 422, "Invalid request")
KINDS: Mapping[type[engine.UnispectError], Kind] = {
    engine.UnsupportedImage: Kind("unsupported-image", 415, "Not an image"),
    engine.ImageTooLarge: Kind("image-too-large", 413, "Image too large"),
    engine.UndecodableImage: Kind("undecodable-image", 422, "Undecodable image"),
    engine.UnknownPartClass: Kind("unknown-part-class", 422, "Unknown part class"),
    engine.BackendError: Kind("engine-failed", 503, "Engine failed", 10),
    own.NotReady: NOT_READY,
    own.QueueFull: Kind("queue-full", 503, "Queue full", 1),
    own.DeadlinePassed: Kind("deadline-passed", 504, "Deadline passed"),
    own.InvalidHeader: INVALID_REQUEST,
    own.InvalidArchive: Kind("invalid-archive", 422, "Invalid archive"),
    engine.BundleError: Kind("invalid-bundle", 422, "Invalid bundle"),
    own.UnknownEngine: Kind("unknown-engine", 404, "Unknown engine"),
    own.EngineExists: Kind("engine-exists", 409, "Engine exists"),
    own.ActivationFailed: Kind("activation-failed", 409, "Activation failed"),
    own.StoreFull: Kind("store-full", 507, "Store full"),
    own.ActivationRunning: Kind("activation-running", 409, "Activation running", 10),
    own.QuotaExceeded: Kind("quota-exceeded", 429, "Quota exceeded", 1),
    own.TooManyAttempts: Kind("too-many-attempts", 429, "Too many attempts", 1),
    own.Unauthenticated: Kind("unauthenticated", 401, "Key needed"),
    own.Forbidden: Kind("forbidden", 403, "Not allowed"),
    own.BodyTooSlow: Kind("body-too-slow", 408, "Body too slow"),
    own.LedgerFailed: Kind("ledger-failed", 503, "Ledger failed", 2),
    own.UnknownInspection: Kind("unknown-inspection", 404, "Unknown inspection"),
    own.PictureNotKept: Kind("picture-not-kept", 404, "Picture not kept"),
    own.TooManyReaders: Kind("too-many-readers", 503, "Too many readers", 10),
    own.BodyTooLarge: Kind("body-too-large", 413, "Body too large"),
    own.WrongContentType: Kind("wrong-content-type", 415, "Wrong Content-Type"),
    own.InvalidForm: Kind("invalid-form", 422, "Invalid form"),
    own.InvalidInferRequest: Kind("invalid-infer-request", 400, "Invalid inference request"),
    own.UnknownModel: Kind("unknown-model", 404, "Unknown model"),
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

    The Open Inference Protocol has a form of its own for errors.

    Args:
        members: that `model` has beyond those of every problem.
    """
    exchange = exchange_of(scope)
    exchange.outcome, exchange.detail = kind.slug, detail
    if _OPEN_INFERENCE.match(scope.get("path", "")):
        response = Response(orjson.dumps({"error": detail}), kind.status, headers, "application/json")
    else:
        problem = _problem(scope, kind, detail, model, **members)
        response = Response(problem.model_dump_json(), kind.status, headers, MEDIA_TYPE)
    if kind.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(kind.retry_after_seconds)
    return response


def error_response(scope: Scope, error: engine.UnispectError) -> Response:
    """The answer for an error of the runtime or of the service."""
    return problem_response(scope, _kind_of(error), str(error))


def note_problem(scope: Scope, error: engine.UnispectError) -> int:
    """Note an error that a page shows, for the log and the metrics; returns its status."""
    exchange, kind = exchange_of(scope), _kind_of(error)
    exchange.outcome, exchange.detail = kind.slug, str(error)
    return kind.status


def problem_of(scope: Scope, error: engine.UnispectError) -> Problem:
    """The problem document for an error of one part of a request, as one image of several."""
    return _problem(scope, _kind_of(error), str(error))


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
        # FastAPI says 400 to whatever happens while it reads a JSON body.
        if isinstance(error.__cause__, engine.UnispectError):
            return error_response(request.scope, error.__cause__)
        if error.headers and "Allow" in error.headers:
            # The router names the methods of one route; others may have the same path.
            error.headers = {**error.headers, "Allow": ", ".join(_methods(request))}
        phrase = HTTPStatus(error.status_code).phrase
        kind = Kind(phrase.lower().replace(" ", "-"), error.status_code, phrase)
        return problem_response(request.scope, kind, _http_sentence(request, error), error.headers)


def _methods(request: Request) -> list[str]:
    """Those that the request's path has."""
    return [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


def _kind_of(error: engine.UnispectError) -> Kind:
    kind = next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), INTERNAL)
    if isinstance(error, own.ComeAgain):
        return replace(kind, retry_after_seconds=max(1, math.ceil(error.wait_seconds)))
    return kind


def _problem(scope: Scope, kind: Kind, detail: str, model: type[Problem] = Problem, **members: object) -> Problem:
    return model(
        type=f"urn:unispect:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=exchange_of(scope).request_id,
        **members,
    )


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
