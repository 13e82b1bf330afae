"""Counts, pass rate, scores and execution times of all inspections since the last reset.

What is older than a minute is final: it is added up once and kept, so that asking again reads only the last minute.
"""

import math
import threading
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from time import monotonic, time_ns

from sqlalchemy import Connection, Engine, Integer, Subquery, cast, func, select

from service.distribution import score_step
from service.history import SETTLED_MICROSECONDS
from service.ids import first_id_at
from service.ledger.schema import inspections, resets

# Execution times are counted by steps of 10 microseconds.
_STEPS_PER_SECOND = 100_000
# Inspections added at a time: a fraction of a second on a small device.
_CHUNK = 10_000
_AFTER_ALL_IDS = "g"


@dataclass(slots=True)
class Statistics:
    """Of the inspections since `since`.

    Attributes:
        since: of the last reset, microseconds since 1970 in UTC; None where there was none.
        complete: whether all are counted.
        scores: inspections by part class, verdict and step of `service.distribution.score_step`.
        shortest, longest: execution times (`total`) in seconds; None without an inspection.
    """

    since: int | None
    complete: bool = True
    scores: Counter[tuple[str, str, int | None]] = field(default_factory=Counter)
    shortest: float | None = None
    longest: float | None = None
    _steps: Counter[int] = field(default_factory=Counter)

    @property
    def verdicts(self) -> Counter[tuple[str, str]]:
        """Inspections by part class and verdict."""
        verdicts: Counter[tuple[str, str]] = Counter()
        for (part_class, verdict, _), count in self.scores.items():
            verdicts[part_class, verdict] += count
        return verdicts

    @property
    def inspections(self) -> int:
        """How many there are."""
        return self.scores.total()

    @property
    def pass_rate(self) -> float | None:
        """Share of the inspections that passed; None without any."""
        passed = sum(count for (_, verdict, _), count in self.scores.items() if verdict == "pass")
        return passed / self.inspections if self.inspections else None

    @property
    def median(self) -> float | None:
        """Of the execution times in seconds, to 10 microseconds; None without an inspection."""
        to_come = (self._steps.total() + 1) // 2
        for step, count in sorted(self._steps.items()):
            to_come -= count
            if to_come <= 0:
                return step / _STEPS_PER_SECOND
        return None

    def add_times(self, step: int, count: int, shortest: float, longest: float) -> None:
        """Add the execution times of `count` inspections of one step."""
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
        self._begin("", None)

    def read(self, seconds: float = math.inf) -> Statistics:
        """The statistics now.

        Args:
            seconds: after which the rest is left to the next call, and what is returned is not complete. The newest
                are counted first.
        """
        deadline = monotonic() + seconds
        while True:
            # Not held for longer than a part takes: another caller may have less time.
            with self._lock:
                self._follow()
                if self._left:
                    self._add_some()
                if not self._left or monotonic() > deadline:
                    statistics = deepcopy(self._final)
                    statistics.complete = not self._left
                    self._add(statistics, self._final_below, _AFTER_ALL_IDS)
                    return statistics

    def _begin(self, final_below: str, since: int | None) -> None:
        self._final = Statistics(since)
        # All ids below are in `_final`, or in the spans of ids that are left to add, the oldest first.
        self._final_below = final_below
        self._left: list[tuple[str, str]] = []

    def _follow(self) -> None:
        """See what has become final since the last call, or that all begins anew."""
        with self._engine.connect() as connection:
            since = connection.execute(select(resets.c.time).order_by(resets.c.id.desc()).limit(1)).scalar()
        if since != self._final.since:
            self._begin(first_id_at(since or 0), since)
        settled = first_id_at(time_ns() // 1_000 - SETTLED_MICROSECONDS)
        if settled > self._final_below:
            follows = bool(self._left) and self._left[-1][1] == self._final_below
            begin = self._left.pop()[0] if follows else self._final_below
            self._left.append((begin, settled))
            self._final_below = settled

    def _add_some(self) -> None:
        """Add a part of what is left, the newest; what became final since the last call may be nothing."""
        most = _CHUNK
        while self._left and most:
            begin, end = self._left[-1]
            count, oldest = self._add(self._final, begin, end, most)
            self._left[-1:] = [(begin, oldest)] if count == most else []
            most -= count

    def _add(self, statistics: Statistics, begin: str, end: str, most: int | None = None) -> tuple[int, str]:
        """Add the newest `most` of a span of ids. Returns how many there were, and the oldest of them."""
        since = statistics.since or 0
        step = cast(func.round(inspections.c.total_seconds * _STEPS_PER_SECOND), Integer)
        columns = (
            inspections.c.id,
            inspections.c.part_class,
            inspections.c.verdict,
            score_step().label("score_step"),
            inspections.c.total_seconds,
            step.label("time_step"),
        )
        rows = select(*columns).where(inspections.c.id >= begin, inspections.c.id < end, inspections.c.time >= since)
        newest = rows.order_by(inspections.c.id.desc()).limit(most).subquery()
        with self._engine.connect() as connection:
            # All before the first is added: a connection that breaks meanwhile leaves the sums whole.
            scores, times = _scores(connection, newest), _times(connection, newest)
        for part_class, verdict, score, count, _ in scores:
            statistics.scores[part_class, verdict, score] += count
        for row in times:
            statistics.add_times(*row)
        return sum(count for *_, count, _ in scores), min((oldest for *_, oldest in scores), default=end)


def _scores(connection: Connection, rows: Subquery) -> list[tuple[str, str, int | None, int, str]]:
    """Number and oldest id by part class, verdict and step of score."""
    keys = (rows.c.part_class, rows.c.verdict, rows.c.score_step)
    query = select(*keys, func.count(), func.min(rows.c.id)).group_by(*keys)
    return [tuple(row) for row in connection.execute(query)]


def _times(connection: Connection, rows: Subquery) -> list[tuple[int, int, float, float]]:
    """Number, shortest and longest by step of execution time."""
    seconds = rows.c.total_seconds
    query = select(rows.c.time_step, func.count(), func.min(seconds), func.max(seconds)).group_by(rows.c.time_step)
    return [tuple(row) for row in connection.execute(query)]
