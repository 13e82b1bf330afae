"""How the scores of a part class are distributed, as the bars of a picture."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import get_args

from engines.scoring import Verdict
from service.distribution import STEPS, STEPS_PER_THRESHOLD

# In the picture's own units.
BAR_WIDTH = 12
WIDTH, HEIGHT = STEPS * BAR_WIDTH, 140
_VERDICTS: tuple[str, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class Bar:
    """The inspections of one verdict in one step: a box in the picture, y from its top."""

    verdict: str
    count: int
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """Where the picture has so many inspections, y from its top."""

    count: int
    y: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars from a score of 0 to twice the threshold; their heights are logarithmic: fails are few.

    Attributes:
        review_x: where the second threshold lies; None where there is none.
    """

    bars: list[Bar]
    lines: list[Line]
    review_x: float | None

    @property
    def threshold_x(self) -> float:
        """Where the threshold lies."""
        return STEPS_PER_THRESHOLD * BAR_WIDTH


def histogram_of(steps: Counter[tuple[str, int]], review_ratio: float | None) -> Histogram:
    """The picture of inspections by verdict and step of `service.distribution.score_step`.

    Args:
        review_ratio: the second threshold divided by the threshold; None where there is none.
    """
    totals: Counter[int] = Counter()
    for (_, step), count in steps.items():
        totals[step] += count
    full = math.log1p(max(totals.values(), default=1))
    bars: list[Bar] = []
    for step, total in sorted(totals.items()):
        # Parts of one bar are in proportion; which is low is of the verdict that is usual there.
        y = float(HEIGHT)
        for verdict in _VERDICTS:
            if count := steps[verdict, step]:
                height = HEIGHT * math.log1p(total) / full * count / total
                y -= height
                bars.append(Bar(verdict, count, step * BAR_WIDTH, y, height))
    powers = (10**power for power in range(math.floor(math.log10(max(totals.values(), default=1))) + 1))
    lines = [Line(count, HEIGHT * (1.0 - math.log1p(count) / full)) for count in powers]
    review_x = None if review_ratio is None else STEPS_PER_THRESHOLD * BAR_WIDTH * min(max(review_ratio, 0.0), 1.0)
    return Histogram(bars, lines, review_x)
