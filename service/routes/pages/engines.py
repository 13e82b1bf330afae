"""/engines: which engines there are, which serves, how far others are, and for admins, another one into service."""

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from engines.bundle import MODEL
from engines.errors import UnispectError
from service.accuracy import Accuracy
from service.context import Context, context_of
from service.engine_builds import builds_of
from service.engine_control import EngineControl
from service.engine_store import EngineId
from service.errors import LedgerFailed
from service.receiving import received_file
from service.security.roles import Role
from service.shadow_history import LATEST, Comparison, compare
from service.templates import render, render_refused, visitor_role

PAGE = "/engines"
UPLOAD_PATH = f"{PAGE}/upload"
router = APIRouter(prefix=PAGE, include_in_schema=False)
_TEMPLATE = "engines.html"
# Most engines are open by then; to compile one takes minutes, and the page says how far it is.
_PATIENCE_SECONDS = 3.0


@router.get("")
async def engines(request: Request) -> Response:
    return await _page(request)


@router.get("/{name}/versions/{version}")
async def engine(request: Request, name: str, version: str) -> Response:
    context = context_of(request)
    stored = await asyncio.to_thread(context.engines.store.look_at, EngineId.parse(name, version))
    accuracy = stored.manifest and Accuracy.of(stored.manifest)
    return render(request, "engine.html", stored=stored, accuracy=accuracy, **_shared(request, context))


# The engine is in the path, as in the API's: so the audit says which.
@router.post("/{name}/versions/{version}/activate")
async def activate(request: Request, name: str, version: str) -> Response:
    return await _do(request, lambda control: control.activate(EngineId.parse(name, version)))


@router.post("/rollback")
async def rollback(request: Request) -> Response:
    return await _do(request, lambda control: control.rollback())


@router.post("/{name}/versions/{version}/delete")
async def delete(request: Request, name: str, version: str) -> Response:
    return await _do(request, lambda control: control.remove(EngineId.parse(name, version)))


@router.post("/{name}/versions/{version}/shadow")
async def shadow(request: Request, name: str, version: str) -> Response:
    return await _do(request, lambda control: control.set_shadow(EngineId.parse(name, version)))


@router.post("/shadow/end")
async def no_shadow(request: Request) -> Response:
    return await _do(request, lambda control: control.set_shadow(None))


@router.post("/upload")
async def upload(request: Request) -> Response:
    control = context_of(request).engines
    try:
        async with received_file(request, control.store.folder) as archive:
            bundle, _ = await control.add(archive)
    except UnispectError as error:
        return await _page(request, error)
    kept = EngineId.of(bundle)
    return RedirectResponse(f"{PAGE}/{kept.name}/versions/{kept.version}", HTTPStatus.SEE_OTHER)


async def _do(request: Request, act: Callable[[EngineControl], Coroutine[Any, Any, object]]) -> Response:
    control = context_of(request).engines
    try:
        await control.patiently(act(control), _PATIENCE_SECONDS)
    except UnispectError as error:
        return await _page(request, error)
    return RedirectResponse(PAGE, HTTPStatus.SEE_OTHER)


async def _page(request: Request, error: UnispectError | None = None) -> Response:
    context = context_of(request)
    control, shadow = context.engines, context.shadow
    # What was inspected just now counts.
    context.afterwards.flush()
    stored = await asyncio.to_thread(control.store.look)
    comparison, unread = await _comparison(request, context)
    builds, failure = builds_of(context.inspector, shadow), control.failure
    busy = any(not build.failed for build in builds)
    values = {
        "engines": [(one, one.manifest and Accuracy.of(one.manifest)) for one in stored],
        "builds": builds,
        "busy": busy,
        # While the next change is under way nobody asks for the one before; and nothing is said twice.
        "failure": None if busy or failure is None or failure.sentence == str(error) else failure,
        "at_work": shadow.engine,
        "verdicts": shadow.verdicts,
        "skipped": shadow.skipped,
        "comparison": comparison,
        "unread": unread,
        "latest": LATEST,
        "max_bundle_bytes": context.settings.max_bundle_bytes,
        **_shared(request, context),
    }
    if error is not None:
        return render_refused(request, _TEMPLATE, error, **values)
    return render(request, _TEMPLATE, **values)


def _shared(request: Request, context: Context) -> dict[str, object]:
    control, candidate = context.engines, context.inspector.lineup.candidate
    opening = context.shadow.opening
    return {
        "state": control.state,
        "activating": None if candidate is None else EngineId.of(candidate.engine.bundle),
        "opening": None if opening is None else EngineId.of(opening.engine.bundle),
        "serving": context.inspector.lineup.serving.health.ready,
        "network": MODEL,
        "may_change": _covers(request, Role.ADMIN),
    }


async def _comparison(request: Request, context: Context) -> tuple[Comparison | None, str | None]:
    """How the shadow compares, for those who may see past inspections, or why that cannot be read now."""
    state = context.engines.state
    if state.shadow is None or not _covers(request, Role.REVIEW):
        return None, None
    try:
        return await context.reading.run(compare, context.ledger.engine, state.active, state.shadow), None
    except LedgerFailed as error:
        return None, str(error)


def _covers(request: Request, needed: Role) -> bool:
    role = visitor_role(request)
    return role is not None and role.covers(needed)
