"""The data plane: an image's bytes in, an inspection out, and no HTTP in it.

An inspection goes event loop -> decode pool -> inference worker -> event loop. The pool hands its pixels to the worker
directly, for a detour over the loop costs a wake-up. One thread owns the backend, which is not thread-safe.
"""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import perf_counter

from engines.errors import BackendError
from engines.images import PartImage
from engines.scoring import Inspection
from service.engine import Engine
from service.errors import NotReady, QueueFull
from service.health import Health, Stage
from service.pictures import Heatmap, HeatmapKind, draw_heatmap
from service.timing import Timing

_JOIN_SECONDS = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """An inspection with all that its answer needs: the picture's size in pixels, the heatmap asked for, the timing."""

    inspection: Inspection
    width: int
    height: int
    heatmap: Heatmap | None
    timing: Timing


@dataclass(slots=True)
class _Job:
    data: bytes
    part_class: str | None
    heatmap: HeatmapKind
    future: asyncio.Future[Result]
    accepted: float = field(default_factory=perf_counter)
    timing: Timing = field(default_factory=Timing)
    decoded: float = 0.0
    image: PartImage = field(init=False)


class _Exchange:
    """In the worker's queue: another engine has been compiled, take it."""


class Inspector:
    """Runs an engine for one event loop. `start`, `inspect`, `drain` and `close` are called on that loop.

    Args:
        engine: opened, used and closed on the worker's thread.
        decode_workers: threads that decode and draw.
        max_queue: inspections accepted and not yet answered; beyond it `inspect` refuses.
        max_pixels: what a picture may declare.
    """

    def __init__(self, engine: Engine, *, decode_workers: int, max_queue: int, max_pixels: int) -> None:
        self.engine = engine
        self._max_queue = max_queue
        self._max_pixels = max_pixels
        self._draining = False
        self._depth = 0
        self._inferring_since: float | None = None
        self._decoded: SimpleQueue[_Job | _Exchange | None] = SimpleQueue()
        self._pool = ThreadPoolExecutor(decode_workers, "decode")
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)

    @property
    def depth(self) -> int:
        """Inspections accepted and not yet answered."""
        return self._depth

    @property
    def health(self) -> Health:
        """The stage now: draining and a stalled engine go before what the engine last said."""
        health = self.engine.health
        if health.ready and self._draining:
            return Health(Stage.DRAINING)
        since = self._inferring_since
        limit = self.engine.stalled_seconds
        if since is not None and perf_counter() - since > limit:
            return Health(Stage.BROKEN, f"The engine has been busy with one image for over {limit:.0f} s.")
        return health

    def start(self) -> None:
        """Begin to open the engine and warm it up; returns at once, `health` tells how far it is."""
        self._loop = asyncio.get_running_loop()
        self._worker.start()

    def drain(self) -> None:
        """Be no longer ready; what arrives on open connections is still served. May be called from a signal handler."""
        self._draining = True

    async def close(self) -> None:
        """Stop the threads; a worker that hangs in the engine is left behind after a few seconds."""
        self.engine.cancel()
        self._decoded.put(None)
        await asyncio.to_thread(self._worker.join, _JOIN_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check_capacity(self) -> None:
        """Raises NotReady or QueueFull where `inspect` would refuse now."""
        health = self.engine.health
        if not health.ready:
            raise NotReady(health.sentence)
        if self._depth >= self._max_queue:
            raise QueueFull(f"{self._max_queue} inspections are waiting already; send the image again in a second.")

    async def inspect(self, data: bytes, part_class: str | None, heatmap: HeatmapKind = HeatmapKind.NONE) -> Result:
        """Inspect one picture.

        Args:
            data: the bytes of a picture in one of `engines.images.FORMATS`.
            part_class: its class; recognised when None.
            heatmap: the picture of the anomaly map to draw, which costs several times an inspection.

        Raises:
            NotReady, QueueFull: at once, before anything is decoded.
            UnknownPartClass: the bundle has no such class.
            ImageError: the picture is refused.
            BackendError: the engine failed; `health` is broken from then on.
        """
        self.check_capacity()
        if part_class is not None:
            self.engine.detector.judge_classes.index_of(part_class)
        job = _Job(data, part_class, heatmap, self._loop.create_future())
        self._depth += 1
        self._pool.submit(self._decode, job)
        return await job.future

    def _decode(self, job: _Job) -> None:
        start = perf_counter()
        try:
            job.image = self.engine.detector.decode(job.data, self._max_pixels)
        except Exception as error:
            self._settle(job, error)
            return
        job.decoded = perf_counter()
        job.timing.queue = start - job.accepted
        job.timing.decode = job.decoded - start
        if job.heatmap is HeatmapKind.NONE:
            job.data = b""
        self._decoded.put(job)

    def _work(self) -> None:
        if self.engine.open(compiled=lambda: self._decoded.put(_Exchange())):
            while (job := self._decoded.get()) is not None:
                if isinstance(job, _Exchange):
                    self.engine.exchange()
                else:
                    self._infer(job)
            self.engine.close()

    def _infer(self, job: _Job) -> None:
        if not self.engine.health.live:
            self._settle(job, BackendError(str(self.engine.health.reason)))
            return
        if job.future.cancelled():
            self._settle(job, asyncio.CancelledError())
            return
        start = self._inferring_since = perf_counter()
        job.timing.queue += start - job.decoded
        try:
            raw = self.engine.detector.infer([job.image])
            inferred = perf_counter()
            inspection = self.engine.detector.judge(raw, 0, job.image, job.part_class)
        except Exception as error:
            if isinstance(error, BackendError):
                _log.exception("The engine failed; the service is no longer live.")
                self.engine.health = Health(Stage.BROKEN, str(error))
            self._settle(job, error)
            return
        finally:
            self._inferring_since = None
        job.timing.inference = inferred - start
        if job.heatmap is HeatmapKind.NONE:
            self._finish(job, inspection, inferred)
        else:
            self._pool.submit(self._draw, job, inspection, inferred)

    def _draw(self, job: _Job, inspection: Inspection, inferred: float) -> None:
        try:
            heatmap = draw_heatmap(job.heatmap, job.data, inspection, self._max_pixels)
        except Exception as error:
            self._settle(job, error)
        else:
            self._finish(job, inspection, inferred, heatmap)

    def _finish(self, job: _Job, inspection: Inspection, inferred: float, heatmap: Heatmap | None = None) -> None:
        now = perf_counter()
        job.timing.postprocess = now - inferred
        job.timing.total = now - job.accepted
        self._settle(job, Result(inspection, job.image.width, job.image.height, heatmap, job.timing))

    def _settle(self, job: _Job, outcome: Result | BaseException) -> None:
        self._loop.call_soon_threadsafe(self._answer, job.future, outcome)

    def _answer(self, future: asyncio.Future[Result], outcome: Result | BaseException) -> None:
        self._depth -= 1
        if future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
