"""/statistics: pass rate, scores, drift and execution times since somebody reset them."""

from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from engines.bundle import PartClass
from engines.errors import UnispectError
from service.context import context_of
from service.errors import LedgerFailed
from service.histogram import BAR_WIDTH, HEIGHT, WIDTH, Histogram, histogram_of
from service.latency import NEWEST, StageTimes, newest_stage_times
from service.routes.drift import drift_of
from service.routes.statistics import begin_anew
from service.statistics import Statistics
from service.templates import render, render_refused

PAGE = "/statistics"
_TEMPLATE = "statistics.html"
router = APIRouter(prefix=PAGE, include_in_schema=False)
# In which the page is there; what is not counted by then is when it is asked for again.
_COUNTING_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Of one part class.

    Attributes:
        verdicts: inspections by verdict.
        histogram: of the scores; None without an inspection that has a positive threshold.
        served: whether the engine that serves knows the class.
    """

    name: str
    verdicts: Counter[str]
    histogram: Histogram | None
    served: bool

    @property
    def inspections(self) -> int:
        """How many there are."""
        return self.verdicts.total()

    @property
    def pass_rate(self) -> float | None:
        """Share that passed; None without an inspection."""
        return self.verdicts["pass"] / self.inspections if self.inspections else None


@router.get("")
async def statistics(request: Request) -> Response:
    return await _page(request)


@router.post("/reset")
async def reset(request: Request) -> Response:
    try:
        await begin_anew(request)
    except LedgerFailed as error:
        return await _page(request, error)
    return RedirectResponse(PAGE, HTTPStatus.SEE_OTHER)


async def _page(request: Request, problem: UnispectError | None = None) -> Response:
    context = context_of(request)

    def read() -> tuple[Statistics, list[StageTimes]]:
        return context.statistics.read(_COUNTING_SECONDS), newest_stage_times(context.ledger.engine)

    counted, stages = await context.reading.run(read)
    values = {
        "statistics": counted,
        "classes": _class_figures(counted, context.inspector.bundle.manifest.part_classes),
        "drift": drift_of(context),
        "stages": stages,
        "newest": NEWEST,
        "bar_width": BAR_WIDTH,
        "width": WIDTH,
        "height": HEIGHT,
    }
    if problem is not None:
        return render_refused(request, _TEMPLATE, problem, **values)
    return render(request, _TEMPLATE, HTTPStatus.OK, **values)


def _class_figures(statistics: Statistics, served: list[PartClass]) -> list[ClassFigures]:
    """Of the classes of the engine that serves, and of others that were inspected."""
    verdicts: dict[str, Counter[str]] = {part.name: Counter() for part in served}
    steps: dict[str, Counter[tuple[str, int]]] = {}
    for (name, verdict, step), count in statistics.scores.items():
        verdicts.setdefault(name, Counter())[verdict] += count
        if step is not None:
            steps.setdefault(name, Counter())[verdict, step] += count
    parts = {part.name: part for part in served}
    return [
        ClassFigures(
            name,
            verdicts[name],
            histogram_of(steps[name], _review_ratio(parts.get(name))) if name in steps else None,
            name in parts,
        )
        for name in sorted(verdicts)
    ]


def _review_ratio(part: PartClass | None) -> float | None:
    if part is None or part.review is None or part.threshold <= 0.0:
        return None
    return part.review.threshold / part.threshold
