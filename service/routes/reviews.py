"""POST /v1/inspections/{id}/review: what a person says of an inspection."""

from time import time_ns
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.context import context_of
from service.exchange import exchange_of
from service.history import Review
from service.history_answers import ReviewAnswer, review_json
from service.ids import new_id
from service.ledger.schema import reviews
from service.routes.history import UNKNOWN
from service.texts import Prose

router = APIRouter(tags=["history"])


class ReviewBody(BaseModel):
    """The judgement, whatever the verdict was."""

    model_config = ConfigDict(extra="forbid")

    label: Literal["ok", "defect"]
    note: Prose | None = Field(None, max_length=2000, description="Why, for other people.")


@router.post(
    "/v1/inspections/{id}/review",
    status_code=201,
    response_model=ReviewAnswer,
    responses=UNKNOWN,
    summary="Say what a part really was; the latest review counts, all are kept",
)
async def review(request: Request, id: str, body: ReviewBody) -> Response:
    given = await give_review(request, id, body)
    return Response(review_json(given), 201, media_type="application/json")


async def give_review(request: Request, inspection_id: str, body: ReviewBody) -> Review:
    """Record what the one who asks says of an inspection; its picture counts as new.

    Raises:
        UnknownInspection: there is no such inspection.
        LedgerFailed: the review is not in the ledger.
    """
    context = context_of(request)
    record = (await context.reading.run(context.history.entry, inspection_id)).record
    now = time_ns()
    given = Review(new_id(now), inspection_id, now // 1_000, body.label, body.note, exchange_of(request.scope).client)
    await context.ledger.insert(reviews, given.row())
    await context.reading.run(context.pictures.prolong, record)
    return given
