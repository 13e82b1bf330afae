"""Liveness, readiness and metrics, for machines that ask every few seconds."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from service.answers import HealthAnswer
from service.context import context_of
from service.health import Health

router = APIRouter(tags=["operation"])
_UNAVAILABLE = {"model": HealthAnswer, "description": "Not now; the body says why."}


@router.get("/livez", responses={503: _UNAVAILABLE}, response_model=HealthAnswer, summary="503 when a restart is due")
async def live(request: Request) -> Response:
    health = context_of(request).inspector.health
    return _answer(health, health.live)


@router.get("/readyz", responses={503: _UNAVAILABLE}, response_model=HealthAnswer, summary="200 when images may come")
@router.get("/healthz", responses={503: _UNAVAILABLE}, response_model=HealthAnswer, summary="The same as /readyz")
async def ready(request: Request) -> Response:
    health = context_of(request).inspector.health
    return _answer(health, health.ready)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
def metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(context_of(request).metrics.registry), headers={"Content-Type": content_type})


def _answer(health: Health, good: bool) -> Response:
    answer = HealthAnswer(status="ok" if good else "unavailable", stage=health.stage, reason=health.reason)
    return Response(answer.model_dump_json(), 200 if good else 503, {"Cache-Control": "no-store"}, "application/json")
