"""/sign-in and /sign-out: a person gives a key once, and the browser has a session of it."""

import re
from http import HTTPStatus
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from service.context import context_of
from service.errors import ComeAgain, KeyFileError, Unauthenticated
from service.exchange import exchange_of
from service.forms import read_fields
from service.problem_pages import SIGN_IN
from service.security.audit import audit
from service.security.origin import require_own_page
from service.security.roles import Role
from service.templates import render, render_refused

router = APIRouter(include_in_schema=False)
_HOME, _TRY = "/", "/try"
_TEMPLATE = "sign_in.html"
# A path of this service; what browsers take for another host's address begins with two slashes, of either kind.
_LOCAL = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]{0,2000})?")


@router.get(SIGN_IN)
async def sign_in_page(request: Request, next: str = _HOME) -> Response:
    context, path = context_of(request), _local(next)
    if not context.keyring.needed or context.sessions.key_of(request.scope) is not None:
        return RedirectResponse(path, HTTPStatus.SEE_OTHER)
    return render(request, _TEMPLATE, next=path)


@router.post(SIGN_IN)
async def sign_in(request: Request) -> Response:
    context, exchange = context_of(request), exchange_of(request.scope)
    require_own_page(request.scope)
    fields = await read_fields(request)
    path = _local(fields.get("next", _HOME))
    if not context.keyring.needed:
        return RedirectResponse(path, HTTPStatus.SEE_OTHER)
    try:
        key = await context.verifier.verify(fields.get("key", "").strip(), exchange.address)
        if path == _HOME and not key.role.covers(Role.REVIEW):
            path = _TRY
        response = RedirectResponse(path, HTTPStatus.SEE_OTHER)
        context.sessions.begin(response, request.scope, key)
    except (Unauthenticated, ComeAgain, KeyFileError) as error:
        return render_refused(request, _TEMPLATE, error, next=path)
    exchange.client = key.name
    audit("A person signed in.", request_id=exchange.request_id, client=key.name, address=exchange.address)
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    require_own_page(request.scope)
    response = RedirectResponse(SIGN_IN, HTTPStatus.SEE_OTHER)
    context_of(request).sessions.end(response, request.scope)
    return response


def _local(path: str) -> str:
    """The path, where it is one of this service, else the first page's."""
    path = quote(path, safe="/?&=%+:;,@!$'()*~-._[]#")
    return path if _LOCAL.fullmatch(path) and not path.startswith(SIGN_IN) else _HOME
