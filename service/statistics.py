"""Counts, pass rate and execution times of all inspections since the last reset.

What is older than a minute is final: it is added up once and kept, so that asking again reads only the last minute.
"""

import threading
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from time import time_ns

from sqlalchemy import Engine, Integer, cast, func, select

from service.history import SETTLED_MICROSECONDS
from service.ids import first_id_at
from service.ledger.schema import inspections, resets

# Execution times are counted by steps of 10 microseconds.
_STEPS_PER_SECOND = 100_000
_AFTER_ALL_IDS = "g"


@dataclass(slots=True)
class Statistics:
    """Of the inspections since `since`.

    Attributes:
        since: of the last reset, microseconds since 1970 in UTC; None where there was none.
        verdicts: inspections by part class and verdict.
        shortest, longest: execution times (`total`) in seconds; None without an inspection.
    """

    since: int | None
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    shortest: float | None = None
    longest: float | None = None
    _steps: Counter[int] = field(default_factory=Counter)

    @property
    def inspections(self) -> int:
        """How many there are."""
        return self.verdicts.total()

    @property
    def pass_rate(self) -> float | None:
        """Share of the inspections that passed; None without any."""
        passed = sum(count for (_, verdict), count in self.verdicts.items() if verdict == "pass")
        return passed / self.inspections if self.inspections else None

    @property
    def median(self) -> float | None:
        """Of the execution times in seconds, to 10 microseconds; None without an inspection."""
        to_come = (self.inspections + 1) // 2
        for step, count in sorted(self._steps.items()):
            to_come -= count
            if to_come <= 0:
                return step / _STEPS_PER_SECOND
        return None

    def add(self, part_class: str, verdict: str, step: int, count: int, shortest: float, longest: float) -> None:
        """Add `count` inspections of one part class, verdict and step of execution time."""
        self.verdicts[part_class, verdict] += count
        self._steps[step] += count
        self.shortest = shortest if self.shortest is None else min(self.shortest, shortest)
        self.longest = longest if self.longest is None else max(self.longest, longest)


class StatisticsReader:
    """Reads them from the ledger. Thread-safe; the first call, and the first after a reset, reads all since then.

    Args:
        engine: a connection pool of the ledger's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._final = Statistics(None)
        # All ids below are in `_final`.
        self._final_below = ""

    def read(self) -> Statistics:
        """The statistics now."""
        with self._lock:
            since = self._last_reset()
            if since != self._final.since:
                self._final, self._final_below = Statistics(since), ""
            settled = first_id_at(time_ns() // 1_000 - SETTLED_MICROSECONDS)
            if settled > self._final_below:
                self._add(self._final, self._final_below, settled)
                self._final_below = settled
            statistics = deepcopy(self._final)
            self._add(statistics, self._final_below, _AFTER_ALL_IDS)
            return statistics

    def _last_reset(self) -> int | None:
        with self._engine.connect() as connection:
            return connection.execute(select(resets.c.time).order_by(resets.c.id.desc()).limit(1)).scalar()

    def _add(self, statistics: Statistics, begin: str, end: str) -> None:
        columns = inspections.c
        since = statistics.since or 0
        step = cast(func.round(columns.total_seconds * _STEPS_PER_SECOND), Integer).label("step")
        query = (
            select(
                columns.part_class,
                columns.verdict,
                step,
                func.count(),
                func.min(columns.total_seconds),
                func.max(columns.total_seconds),
            )
            .where(columns.id >= max(begin, first_id_at(since)), columns.id < end, columns.time >= since)
            .group_by(columns.part_class, columns.verdict, step)
        )
        with self._engine.connect() as connection:
            # All before the first is added: a connection that breaks meanwhile leaves the sums whole.
            rows = connection.execute(query).all()
        for row in rows:
            statistics.add(*row)
