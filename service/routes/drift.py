"""GET /v1/drift: whether production is still as in training."""

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.context import Context, context_of
from service.drift import ALARM, Direction

router = APIRouter()


class ClassDrift(BaseModel):
    """The running test of one part class."""

    part_class: str
    statistic: float = Field(description="0 and above; an alarm at `alarm`.")
    drifting: bool = Field(description="The scores of parts that pass are not as in training.")
    direction: Direction | None = Field(description="Which way the scores have moved; null while there is no alarm.")
    since: datetime | None = Field(description="When the alarm began; null while there is none.")
    parts: int = Field(description="Parts that passed and were tested.")


class DriftAnswer(BaseModel):
    """The drift of the engine that serves, from the parts that it passed."""

    alarm: float = Field(description="At this statistic 10 ** alarm parts pass before a false alarm, on the average.")
    part_classes: list[ClassDrift]


@router.get("/v1/drift", summary="Whether production is still as in training", tags=["operation"])
async def drift(request: Request) -> DriftAnswer:
    return drift_of(context_of(request))


def drift_of(context: Context) -> DriftAnswer:
    """The drift now, of all that has been answered."""
    context.afterwards.flush()
    monitor = context.drift
    return DriftAnswer(
        alarm=ALARM,
        part_classes=[
            ClassDrift(
                part_class=name,
                statistic=round(test.statistic, 3),
                drifting=test.drifting,
                direction=test.direction,
                since=monitor.since.get(name),
                parts=test.parts,
            )
            for name, test in monitor.tests.items()
        ],
    )
