"""Where the shadow and the engine that serves gave different verdicts, read from the ledger."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, FromClause, Select, Subquery, and_, func, select

from service.engine_store import EngineId
from service.ledger.schema import inspections, shadow_inspections

# Looking back ends after so many images of any shadow: the ledger may have millions.
LATEST = 5_000
_NEWEST = 20


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An inspection with two verdicts.

    Attributes:
        id: of the inspection.
        time: microseconds since 1970 in UTC.
    """

    id: str
    time: int
    part_class: str
    verdict: str
    score: float
    threshold: float
    shadow_verdict: str
    shadow_score: float
    shadow_threshold: float


@dataclass(slots=True)
class Agreement:
    """Both engines' verdicts on the parts of one class.

    Attributes:
        verdicts: images by the verdict of the engine that serves and the shadow's.
    """

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def images(self) -> int:
        """That both saw."""
        return self.verdicts.total()

    @property
    def disagreements(self) -> int:
        """Images with two verdicts."""
        return sum(count for (one, other), count in self.verdicts.items() if one != other)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two engines on the same images.

    Attributes:
        classes: by part class.
        newest: disagreements, the newest first.
    """

    classes: dict[str, Agreement]
    newest: list[Disagreement]


def compare(database: Engine, serving: EngineId, shadow: EngineId) -> Comparison:
    """Both engines on the images that both saw, among the newest `LATEST` that any shadow saw.

    It waits for the database: call it in a thread.

    Args:
        database: a connection pool of the ledger's.
    """
    latest = select(shadow_inspections).order_by(shadow_inspections.c.id.desc()).limit(LATEST).subquery()
    both = and_(_is_of(latest, shadow), _is_of(inspections, serving))
    with database.connect() as connection:
        return Comparison(_classes(connection, latest, both), _newest(connection, latest, both))


def _classes(connection: Connection, latest: Subquery, both: ColumnElement[bool]) -> dict[str, Agreement]:
    columns = (inspections.c.part_class, inspections.c.verdict, latest.c.verdict)
    classes: dict[str, Agreement] = {}
    for part_class, verdict, other, count in connection.execute(
        _joined(latest, both, *columns, func.count()).group_by(*columns).order_by(inspections.c.part_class)
    ):
        classes.setdefault(part_class, Agreement()).verdicts[verdict, other] += count
    return classes


def _newest(connection: Connection, latest: Subquery, both: ColumnElement[bool]) -> list[Disagreement]:
    own = inspections.c
    query = _joined(
        latest,
        and_(both, own.verdict != latest.c.verdict),
        own.id,
        own.time,
        own.part_class,
        own.verdict,
        own.score,
        own.threshold,
        latest.c.verdict.label("shadow_verdict"),
        latest.c.score.label("shadow_score"),
        latest.c.threshold.label("shadow_threshold"),
    )
    rows = connection.execute(query.order_by(latest.c.id.desc()).limit(_NEWEST))
    return [Disagreement(**row._mapping) for row in rows]


def _joined(latest: Subquery, condition: ColumnElement[bool], *columns: ColumnElement[Any]) -> Select[Any]:
    return select(*columns).join_from(latest, inspections, inspections.c.id == latest.c.id).where(condition)


def _is_of(rows: FromClause, engine: EngineId) -> ColumnElement[bool]:
    return and_(rows.c.engine_name == engine.name, rows.c.engine_version == engine.version)
