"""Problems as people see them: what a browser's page asks for in vain is answered with a page, or with the sign-in."""

import logging
from http import HTTPStatus
from urllib.parse import quote

import orjson
from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import MEDIA_TYPE
from service.templates import render

SIGN_IN = "/sign-in"
_SIGN_IN_FIRST = "Sign in first, and then do it again; your session has ended, or there was none."
_log = logging.getLogger(__name__)


class ProblemPages:
    """Shows problem documents as pages to who accepts `text/html` by name, as browsers do when they open an address.

    Who needs a key and has no session is sent to sign in. The outermost middleware: it shows what the others refuse.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _wants_page(scope):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        document = bytearray()

        async def send_page(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                document.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await _page(scope, start, bytes(document))(scope, receive, send)

        await self._app(scope, receive, send_page)


def _page(scope: Scope, start: Message, document: bytes) -> Response:
    headers = MutableHeaders(raw=list(start["headers"]))
    try:
        response = _response(scope, start["status"], document)
    except Exception:
        # What ails the service may ail its pages too; the document says what it can.
        _log.exception("A problem could not be shown as a page.")
        return _with(Response(document, start["status"]), headers)
    for name in ("content-type", "content-security-policy"):
        del headers[name]
    return _with(response, headers)


def _response(scope: Scope, status: int, document: bytes) -> Response:
    request = Request(scope)
    if status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{SIGN_IN}?next={quote(asked, safe='/')}", HTTPStatus.SEE_OTHER)
    problem = orjson.loads(document)
    return render(
        request,
        "problem.html",
        status,
        heading=problem["title"],
        sentence=_SIGN_IN_FIRST if status == HTTPStatus.UNAUTHORIZED else problem["detail"],
        instance=problem["instance"],
        sign_in=status == HTTPStatus.UNAUTHORIZED,
    )


def _with(response: Response, headers: MutableHeaders) -> Response:
    for name, value in headers.items():
        if name not in ("content-length", "location"):
            response.headers.append(name, value)
    return response


def _wants_page(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value.lower() for name, value in scope["headers"])


def _is_problem(start: Message) -> bool:
    return any(name == b"content-type" and value == MEDIA_TYPE.encode() for name, value in start["headers"])
