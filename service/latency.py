"""Where the time of the newest inspections went."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Engine, select

from service.ledger.schema import inspections
from service.timing import STAGES

NEWEST = 1000


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds of one stage of `service.timing.Timing`."""

    stage: str
    median: float
    p95: float
    longest: float


def newest_stage_times(engine: Engine) -> list[StageTimes]:
    """Of the newest `NEWEST` inspections of a ledger; empty where there is none. It waits for the database."""
    columns = [inspections.c[f"{stage}_seconds"] for stage in STAGES]
    with engine.connect() as connection:
        rows = connection.execute(select(*columns).order_by(inspections.c.id.desc()).limit(NEWEST)).all()
    if not rows:
        return []
    quantiles = np.quantile(np.array(rows, np.float64), (0.5, 0.95, 1.0), axis=0).T
    return [StageTimes(stage, *map(float, three)) for stage, three in zip(STAGES, quantiles, strict=True)]
