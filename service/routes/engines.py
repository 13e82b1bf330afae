"""Engines on this machine: which there are, which serves, and how another one is put into service."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from service.answers import ActivationAnswer, EngineAnswer, EnginesAnswer, ShadowAnswer, StoredEngineAnswer
from service.context import Context, context_of
from service.engine_store import EngineId
from service.problems import PROBLEM
from service.receiving import received_body

UPLOAD_PATH = "/v1/engines"
router = APIRouter(tags=["engines"])
_REFUSED: dict[int | str, dict[str, Any]] = {
    404: {**PROBLEM, "description": "There is no such engine."},
    409: {**PROBLEM, "description": "It cannot be used here, or another one is being activated."},
}
_UPLOAD = {
    "required": True,
    "description": "A bundle's folder as a ZIP file.",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}


@router.get("/v1/engines", summary="The engines on this machine")
async def engines(request: Request) -> EnginesAnswer:
    context = context_of(request)
    control, candidate = context.engines, context.inspector.lineup.candidate
    stored = await asyncio.to_thread(control.store.engines)
    return EnginesAnswer(
        active=control.state.active,
        previous=control.state.history[-1] if control.state.history else None,
        shadow=control.state.shadow,
        activating=None if candidate is None else EngineId.of(candidate.engine.bundle),
        stage=None if candidate is None else (candidate.health.reason or candidate.health.stage),
        engines=stored,
    )


@router.get("/v1/engines/{name}/versions/{version}", responses={404: _REFUSED[404]}, summary="One engine")
async def engine(request: Request, name: str, version: str) -> StoredEngineAnswer:
    control = context_of(request).engines
    bundle = await asyncio.to_thread(control.store.load, EngineId.parse(name, version))
    return StoredEngineAnswer.of_bundle(bundle)


@router.post(
    UPLOAD_PATH,
    status_code=201,
    responses={
        200: {"model": StoredEngineAnswer, "description": "This very bundle was there already."},
        409: {**PROBLEM, "description": "Another bundle has this name and version."},
        413: {**PROBLEM, "description": "The archive has too many bytes."},
        422: {**PROBLEM, "description": "It is no archive of one whole bundle."},
        507: {**PROBLEM, "description": "The disk is full."},
    },
    openapi_extra={"requestBody": _UPLOAD},
    summary="Keep a bundle; it does not serve before it is activated",
)
async def upload(request: Request, response: Response) -> StoredEngineAnswer:
    control = context_of(request).engines
    async with received_body(request, control.store.folder) as archive:
        bundle, is_new = await control.add(archive)
    response.status_code = 201 if is_new else 200
    return StoredEngineAnswer.of_bundle(bundle)


@router.post("/v1/engines/{name}/versions/{version}/activate", responses=_REFUSED, summary="Let an engine serve")
async def activate(request: Request, name: str, version: str) -> ActivationAnswer:
    """It is opened and proven on its golden image beside the one that serves, then swapped: no request fails."""
    previous = await context_of(request).engines.activate(EngineId.parse(name, version))
    return _activated(context_of(request), previous)


@router.post("/v1/engines/rollback", responses=_REFUSED, summary="Let the engine serve that served before")
async def rollback(request: Request) -> ActivationAnswer:
    previous = await context_of(request).engines.rollback()
    return _activated(context_of(request), previous)


@router.delete("/v1/engines/{name}/versions/{version}", status_code=204, responses=_REFUSED, summary="Delete an engine")
async def delete(request: Request, name: str, version: str) -> None:
    await context_of(request).engines.remove(EngineId.parse(name, version))


@router.get("/v1/shadow", summary="The engine that sees the same images, and how often it disagrees")
async def shadow(request: Request) -> ShadowAnswer:
    context_of(request).afterwards.flush()
    return _shadow(context_of(request))


@router.put("/v1/shadow", responses=_REFUSED, summary="Let an engine see the same images in spare time")
async def set_shadow(request: Request, engine: EngineId) -> ShadowAnswer:
    await context_of(request).engines.set_shadow(engine)
    return _shadow(context_of(request))


@router.delete("/v1/shadow", status_code=204, summary="Let no engine be the shadow")
async def no_shadow(request: Request) -> None:
    await context_of(request).engines.set_shadow(None)


def _activated(context: Context, previous: EngineId) -> ActivationAnswer:
    inspector = context.inspector
    return ActivationAnswer(
        engine=EngineAnswer.of(inspector.bundle.manifest, inspector.backend_name), previous=previous
    )


def _shadow(context: Context) -> ShadowAnswer:
    shadow = context.shadow
    counts = shadow.verdicts
    return ShadowAnswer(
        engine=context.engines.state.shadow,
        backend=None if shadow.engine is None else shadow.engine.get("backend"),
        inspections=counts.total(),
        skipped=shadow.skipped,
        disagreements=sum(count for (one, other), count in counts.items() if one != other),
        verdicts={f"{one}, {other} by the shadow": count for (one, other), count in sorted(counts.items())},
    )
