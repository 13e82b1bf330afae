"""Liveness, readiness and metrics, for machines that ask every few seconds."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client.exposition import choose_encoder

from service.answers import HealthAnswer, HealthProblem
from service.context import context_of
from service.problems import MEDIA_TYPE, NOT_LIVE, NOT_READY, Kind, problem_response

router = APIRouter(tags=["operation"])
_UNAVAILABLE = {
    "content": {MEDIA_TYPE: {"schema": HealthProblem.model_json_schema()}},
    "description": "Not now; the body says why, and how far it is.",
}
_NOT_STORED = {"Cache-Control": "no-store"}


@router.get("/livez", responses={503: _UNAVAILABLE}, response_model=HealthAnswer, summary="503 when a restart is due")
async def live(request: Request) -> Response:
    return _answer(request, NOT_LIVE, context_of(request).health.live)


@router.get("/readyz", responses={503: _UNAVAILABLE}, response_model=HealthAnswer, summary="200 when images may come")
@router.get("/healthz", responses={503: _UNAVAILABLE}, response_model=HealthAnswer, summary="The same as /readyz")
async def ready(request: Request) -> Response:
    return _answer(request, NOT_READY, context_of(request).health.ready)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    context = context_of(request)
    context.afterwards.flush()
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    body = await run_in_threadpool(encode, context.metrics.registry)
    return Response(body, headers={"Content-Type": content_type})


def _answer(request: Request, kind: Kind, good: bool) -> Response:
    context = context_of(request)
    health, elapsed = context.health, round(context.inspector.elapsed, 1)
    if good:
        answer = HealthAnswer(status="ok", stage=health.stage, reason=health.reason, elapsed_seconds=elapsed)
        return Response(answer.model_dump_json(), 200, _NOT_STORED, "application/json")
    return problem_response(
        request.scope,
        kind,
        health.sentence,
        _NOT_STORED,
        model=HealthProblem,
        stage=health.stage,
        elapsed_seconds=elapsed,
        fraction=health.fraction,
    )
