"""Scores in steps of their part class's threshold: by them, those of engines with other thresholds compare."""

from sqlalchemy import ColumnElement, Integer, case, cast, func

from service.ledger.schema import inspections

STEPS_PER_THRESHOLD = 20
# What is higher is counted in the last.
STEPS = 2 * STEPS_PER_THRESHOLD
_FINE = 1_000_000


def score_step() -> ColumnElement[int | None]:
    """Of a row of inspections: step k, from 0 to STEPS - 1, has the scores from k (without) to k + 1 (with it).

    NULL where the threshold is not positive.
    """
    score, threshold = inspections.c.score, inspections.c.threshold
    last = STEPS - 1
    # Whole numbers divide alike everywhere; PostgreSQL's casts round, SQLite's do not, and few databases have floor.
    fine = cast(func.round(score / threshold * (STEPS_PER_THRESHOLD * _FINE)), Integer)
    return case(
        (threshold <= 0.0, None),
        # First: PostgreSQL refuses a division that overflows.
        (score > threshold * (last / STEPS_PER_THRESHOLD), last),
        (score <= 0.0, 0),
        else_=(fine - 1) // _FINE,
    )
