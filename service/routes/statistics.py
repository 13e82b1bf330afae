"""/v1/statistics: counts, pass rate and execution times since somebody reset them."""

from time import time_ns

from fastapi import APIRouter, Request

from service.context import context_of
from service.exchange import exchange_of
from service.history_answers import StatisticsAnswer
from service.ids import new_id
from service.ledger.schema import resets

router = APIRouter(tags=["history"])


@router.get("/v1/statistics", summary="Counts, pass rate and execution times since the last reset")
async def statistics(request: Request) -> StatisticsAnswer:
    context = context_of(request)
    return StatisticsAnswer.of(await context.reading.run(context.statistics.read))


@router.post("/v1/statistics/reset", summary="Begin the statistics anew; the inspections stay")
async def reset(request: Request) -> StatisticsAnswer:
    await begin_anew(request)
    return await statistics(request)


async def begin_anew(request: Request) -> None:
    """Have all statistics begin now. Raises LedgerFailed where that is not in the ledger."""
    now = time_ns()
    row = {"id": new_id(now), "time": now // 1_000, "client": exchange_of(request.scope).client}
    await context_of(request).ledger.insert(resets, row)
