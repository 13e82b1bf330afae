"""What a client sends and how it takes the answer, without sending: the same for the blocking and the async client."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

import httpx
from opentelemetry import propagate
from pydantic import BaseModel, ValidationError

from engines.errors import UnispectError
from service.answers import BatchAnswer, EngineAnswer, InspectionAnswer
from service.deadlines import HEADER as DEADLINE_HEADER
from service.problems import MEDIA_TYPE, Problem
from service.uploads import FIELD

_BACKOFF_SECONDS = 0.1
_MOST_BACKOFF_SECONDS = 5.0
# Of these nothing has reached the service.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_COME_AGAIN = frozenset({429, 503})
_FROM_A_PROXY = frozenset({502, 504})
_jitter = random.SystemRandom()

Answer = TypeVar("Answer")
Model = TypeVar("Model", bound=BaseModel)


class ClientError(UnispectError):
    """Base of what goes wrong for a client."""


class Unreachable(ClientError):
    """No answer came; where the request was sent, it may have been carried out nevertheless."""


class Refused(ClientError):
    """The service said no.

    Args:
        problem: why.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class AskedOfAll(TypedDict, total=False):
    """What may be said with a batch; `service.routes.inspections.InspectionQuery` describes it."""

    part_class: str | None
    station: str | None
    heatmap: Literal["none", "overlay", "map"]
    deadline_ms: int | None


class Asked(AskedOfAll, total=False):
    """What may be said with one image.

    With a `part_id` a request whose answer was lost is sent again: the service inspects a part's image once.
    """

    part_id: str | None


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a batch: a file's bytes, and what is known of the part."""

    data: bytes
    part_id: str | None = None
    part_class: str | None = None


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A request, and how its answer is read.

    Attributes:
        repeatable: to send it twice does no more than to send it once.
        options: of `httpx.Client.request`.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], Answer]
    repeatable: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def inspect_call(data: bytes, **asked: Unpack[Asked]) -> Call[InspectionAnswer]:
    """POST /v1/inspections."""
    headers = _headers(asked.get("deadline_ms")) | {"Content-Type": "application/octet-stream"}
    options = {"params": _parameters(**asked), "headers": headers, "content": data}
    repeatable = asked.get("part_id") is not None
    return Call("POST", "/v1/inspections", _reader(InspectionAnswer), repeatable, options)


def batch_call(pictures: Sequence[Picture], **asked: Unpack[AskedOfAll]) -> Call[BatchAnswer]:
    """POST /v1/inspections:batch."""
    fields = {
        name: [getattr(picture, name) or "" for picture in pictures]
        for name in ("part_id", "part_class")
        if any(getattr(picture, name) for picture in pictures)
    }
    options = {
        "params": _parameters(**asked),
        "headers": _headers(asked.get("deadline_ms")),
        "files": [(FIELD, (f"image-{number}", picture.data)) for number, picture in enumerate(pictures)],
        "data": fields,
    }
    repeatable = all(picture.part_id for picture in pictures)
    return Call("POST", "/v1/inspections:batch", _reader(BatchAnswer), repeatable, options)


def review_call(inspection_id: str, label: Literal["ok", "defect"], note: str | None) -> Call[None]:
    """POST /v1/inspections/{id}/review; the latest one counts, so that a second one of the same does no harm."""
    body = {"label": label} | ({} if note is None else {"note": note})
    return Call("POST", f"/v1/inspections/{inspection_id}/review", lambda _: None, options={"json": body})


ENGINE = Call("GET", "/v1/engine", lambda response: _reader(EngineAnswer)(response))


class Attempts:
    """Decides after each attempt at a call whether another one is made, and when.

    Where the service asks to come again later, that is done; pauses grow twofold and are drawn at random below that,
    so that many clients do not come at once (M. Brooker, "Exponential Backoff And Jitter", 2015: full jitter).

    Args:
        most: attempts.
        most_wait: longest pause in seconds that the service may ask for.
    """

    def __init__(self, call: Call[Any], most: int, most_wait: float) -> None:
        self._call = call
        self._left = most
        self._most_wait = most_wait
        self._backoff = _BACKOFF_SECONDS

    def after(self, response: httpx.Response) -> float | None:
        """The pause in seconds before another attempt; None where this one succeeded. Raises Refused."""
        if response.is_success:
            return None
        again = response.status_code in _COME_AGAIN or (
            response.status_code in _FROM_A_PROXY and self._call.repeatable and not _is_problem(response)
        )
        pause = self._pause(response.headers.get("Retry-After"))
        if not again or pause is None:
            raise Refused(_problem(response))
        return pause

    def after_error(self, error: httpx.TransportError) -> float:
        """The pause in seconds before another attempt. Raises Unreachable where there is none."""
        sent = not isinstance(error, _NOT_SENT)
        reason = str(error) or type(error).__name__
        if sent and not self._call.repeatable:
            raise Unreachable(
                f"The service did not answer ({reason}) and may have inspected the image; give a part_id, so that it "
                "can be sent again."
            ) from error
        if (pause := self._pause()) is None:
            raise Unreachable(f"The service does not answer ({reason}); see that it runs and is reachable.") from error
        return pause

    def _pause(self, retry_after: str | None = None) -> float | None:
        self._left -= 1
        asked = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
        if self._left <= 0 or asked > self._most_wait:
            return None
        pause = asked + _jitter.uniform(0.0, self._backoff)
        self._backoff = min(2 * self._backoff, _MOST_BACKOFF_SECONDS)
        return pause


def _parameters(**asked: Any) -> dict[str, str]:
    return {name: value for name, value in asked.items() if value is not None and name != "deadline_ms"}


def _headers(deadline_ms: int | None) -> dict[str, str]:
    headers: dict[str, str] = {} if deadline_ms is None else {DEADLINE_HEADER: str(deadline_ms)}
    propagate.inject(headers)
    return headers


def _reader(model: type[Model]) -> Callable[[httpx.Response], Model]:
    def read(response: httpx.Response) -> Model:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise ClientError(
                f"The answer of {response.url.host} is not of this version of the service; update the client."
            ) from error

    return read


def _is_problem(response: httpx.Response) -> bool:
    return bool(response.headers.get("Content-Type") == MEDIA_TYPE)


def _problem(response: httpx.Response) -> Problem:
    if _is_problem(response):
        return _reader(Problem)(response)
    return Problem(
        type="about:blank",
        title=response.reason_phrase,
        status=response.status_code,
        detail=f"{response.url.host} answered {response.status_code} {response.reason_phrase}, which is not of the "
        "service; see what stands between.",
        instance=response.headers.get("X-Request-ID", ""),
    )
