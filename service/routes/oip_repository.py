"""The model repository extension of the Open Inference Protocol: which engines there are, and another one into service.

Source: Triton Inference Server, "Model Repository Extension". One engine serves at a time: to load one takes the other
out of service, and none can be unloaded without another in its place.
"""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.context import Context, context_of
from service.engine_store import EngineId, EngineStore
from service.errors import InvalidInferRequest, UnknownModel
from service.routes.oip import REFUSED

# Triton's client announces its JSON as nothing.
router = APIRouter(
    prefix="/v2/repository", tags=["Open Inference Protocol"], responses=REFUSED, strict_content_type=False
)


class IndexQuery(BaseModel):
    """Which models of the repository to name."""

    ready: bool = Field(False, description="Only those that may be asked.")


class IndexEntry(BaseModel):
    """A model of the repository."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class LoadRequest(BaseModel):
    """Triton takes a model's files and configuration here; this service takes none."""

    parameters: dict[str, Any] = {}


@router.post("/index", summary="The engines on this machine")
async def index(request: Request, query: IndexQuery | None = None) -> list[IndexEntry]:
    context = context_of(request)
    kept = await asyncio.to_thread(context.engines.store.engines)
    entries = [_entry(context, engine) for engine in kept]
    return [entry for entry in entries if entry.state == "READY" or query is None or not query.ready]


@router.post("/models/{model}/load", status_code=200, summary="Let an engine serve")
async def load(request: Request, model: str, version: str | None = None, body: LoadRequest | None = None) -> Response:
    """The `version` named, else the one that was built last; it is opened and proven beside the one that serves."""
    if body is not None and body.parameters:
        raise InvalidInferRequest("A model is not loaded with parameters; upload its bundle by POST /v1/engines first.")
    engines = context_of(request).engines
    engine = (
        await asyncio.to_thread(_newest, engines.store, model) if version is None else EngineId.parse(model, version)
    )
    if engine != engines.state.active:
        await engines.activate(engine)
    return Response()


@router.post("/models/{model}/unload", status_code=200, summary="Refused for the engine that serves")
async def unload(request: Request, model: str) -> Response:
    store, active = context_of(request).engines.store, context_of(request).engines.state.active
    if model == active.name:
        raise InvalidInferRequest(f"The engine {active} serves; load another one in its place.")
    if all(engine.name != model for engine in await asyncio.to_thread(store.engines)):
        raise _unknown(model)
    return Response()


def _entry(context: Context, engine: EngineId) -> IndexEntry:
    serves, health = engine == context.engines.state.active, context.health
    if serves and health.ready:
        return IndexEntry(name=engine.name, version=engine.version, state="READY", reason="")
    reason = health.sentence if serves else "not in service"
    return IndexEntry(name=engine.name, version=engine.version, state="UNAVAILABLE", reason=reason)


def _newest(store: EngineStore, name: str) -> EngineId:
    kept = [engine for engine in store.engines() if engine.name == name]
    if not kept:
        raise _unknown(name)
    return max(kept, key=lambda engine: store.load(engine).manifest.created)


def _unknown(model: str) -> UnknownModel:
    return UnknownModel(f"There is no model {model[:64]!r} on this machine; upload its bundle by POST /v1/engines.")
