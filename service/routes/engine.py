"""GET /v1/engine: what is served."""

from fastapi import APIRouter, Request

from service.answers import EngineAnswer
from service.context import context_of

router = APIRouter()


@router.get("/v1/engine", summary="The engine that is served", tags=["inspection"])
async def engine(request: Request) -> EngineAnswer:
    context = context_of(request)
    return EngineAnswer.of(context.inspector.bundle.manifest, context.inspector.backend_name)
