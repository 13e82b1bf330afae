"""A second engine that sees the same images in spare time: the evidence for promoting it, without any risk."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from engines.bundle import Bundle
from engines.scoring import Inspection
from service.admission import Admission
from service.errors import ActivationRunning
from service.jobs import Job
from service.pictures import HeatmapKind
from service.worker import EngineOptions, EngineWorker, Outcome

_DEADLINE_SECONDS = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShadowInspection:
    """What the shadow makes of an image that was inspected as `id`.

    Attributes:
        verdict: of the engine that serves.
    """

    id: str
    engine: dict[str, str]
    inspection: Inspection
    verdict: str

    @property
    def agrees(self) -> bool:
        """Whether both engines give the same verdict."""
        return self.inspection.verdict == self.verdict


@dataclass(frozen=True, slots=True)
class _Seen:
    id: str
    verdict: str


class Shadow:
    """Used on the event loop. It takes an image only while none waits, and one at a time.

    Args:
        options: of every engine.
        admission: tells whether an image waits.
        observers: get each inspection of the shadow.

    Attributes:
        opening: will be the shadow once it is open.
        skipped: images that it did not see, for there was no time to spare.
        verdicts: inspections by the verdict of the engine that serves and its own.
    """

    def __init__(
        self,
        options: EngineOptions,
        admission: Admission,
        observers: Sequence[Callable[[ShadowInspection], None]] = (),
    ) -> None:
        self._options, self._admission, self._observers = options, admission, observers
        self._worker: EngineWorker | None = None
        self.opening: EngineWorker | None = None
        self._seen: _Seen | None = None
        self.skipped = 0
        self.verdicts: Counter[tuple[str, str]] = Counter()

    @property
    def engine(self) -> dict[str, str] | None:
        """Name, version, precision and backend; None where there is no shadow."""
        return None if self._worker is None else self._worker.engine.name

    def worker(self, bundle: Bundle) -> EngineWorker:
        """A worker for `use`, not yet started."""
        return EngineWorker.of(bundle, self._options, self._deliver)

    async def use(self, worker: EngineWorker | None) -> None:
        """Take an engine, or none. Counts begin anew.

        Args:
            worker: as `worker` makes it.

        Raises:
            ActivationRunning: another one is being opened.
            UnispectError: it cannot be used here; then there is none.
        """
        if self.opening is not None:
            name = self.opening.engine.name
            raise ActivationRunning(f"The engine {name['name']} {name['version']} is becoming the shadow; wait for it.")
        self.opening = worker
        try:
            previous, self._worker = self._worker, None
            if previous is not None:
                await previous.close()
            self._seen, self.skipped, self.verdicts = None, 0, Counter()
            if worker is None:
                return
            self._loop = asyncio.get_running_loop()
            await worker.start()
            self._worker = worker
        finally:
            self.opening = None

    def offer(self, id_: str, data: bytes, part_class: str | None, inspection: Inspection) -> None:
        """Show an image that was just inspected; it is passed by where there is no time to spare.

        Args:
            part_class: as the request named it.
        """
        worker = self._worker
        if worker is None:
            return
        if self._seen is not None or self._admission.depth or not worker.health.ready:
            self.skipped += 1
            return
        if all(part.name != part_class for part in worker.engine.bundle.manifest.part_classes):
            part_class = None
        self._seen = _Seen(id_, inspection.verdict)
        now = perf_counter()
        job = Job(data, part_class, HeatmapKind.NONE, self._loop.create_future(), now + _DEADLINE_SECONDS)
        worker.outstanding += 1
        worker.put(job)

    async def close(self) -> None:
        """Stop its thread."""
        await asyncio.gather(*(worker.close() for worker in (self._worker, self.opening) if worker is not None))

    def _deliver(self, worker: EngineWorker, job: Job, outcome: Outcome, inferred: float) -> None:
        self._loop.call_soon_threadsafe(self._judged, worker, outcome)

    def _judged(self, worker: EngineWorker, outcome: Outcome) -> None:
        worker.answered()
        if worker is not self._worker or self._seen is None:
            return
        seen, self._seen = self._seen, None
        if isinstance(outcome, BaseException):
            _log.warning("The shadow failed on the image of inspection %s: %s", seen.id, outcome)
            return
        self.verdicts[seen.verdict, outcome.verdict] += 1
        for observe in self._observers:
            observe(ShadowInspection(seen.id, worker.engine.name, outcome, seen.verdict))
