"""One inspection on its way through the service."""

import asyncio
from dataclasses import dataclass, field
from time import perf_counter

from engines.images import PartImage
from engines.scoring import Inspection
from service.pictures import Heatmap, HeatmapKind
from service.timing import Timing


@dataclass(frozen=True, slots=True)
class Result:
    """An inspection with all that its answer needs.

    Attributes:
        width, height: of the upright picture in pixels.
        heatmap: the one asked for.
        engine: name, version, precision and backend of the engine that judged.
        repeated: the ledger had it before the request came; its anomaly map is [0, 0] where none was needed.
    """

    inspection: Inspection
    width: int
    height: int
    heatmap: Heatmap | None
    timing: Timing
    engine: dict[str, str]
    repeated: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """An accepted picture. The engine is chosen on acceptance and judges it whatever happens to others meanwhile.

    Attributes:
        deadline: when its answer is of no use any more, by `perf_counter`.
    """

    data: bytes
    part_class: str | None
    heatmap: HeatmapKind
    future: asyncio.Future[Result]
    deadline: float
    accepted: float = field(default_factory=perf_counter)
    timing: Timing = field(default_factory=Timing)
    decoded: float = 0.0
    image: PartImage = field(init=False)
