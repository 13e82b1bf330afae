"""The data plane: a picture's bytes in, an inspection out, and no HTTP in it.

An inspection goes event loop -> decode pool -> engine's thread -> event loop. The pool hands its pixels to the engine
directly, and a lone picture is decoded on the engine's thread, for each change of thread costs a wake-up.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from engines.bundle import Bundle
from engines.errors import UnispectError
from engines.scoring import Inspection
from service.admission import Admission
from service.errors import NotReady
from service.health import Health, Stage
from service.jobs import Job, Result
from service.lineup import Lineup
from service.pictures import Heatmap, HeatmapKind, draw_heatmap
from service.worker import EngineOptions, EngineWorker, Outcome


class Inspector:
    """Inspects pictures for one event loop, on which all but `drain` is called.

    Args:
        bundle: of the engine that serves first.
        options: of every engine.
        meanwhile: the backend that serves while that engine is compiled; None leaves the service unready.
        decode_workers: threads that decode and draw.
        max_queue: inspections accepted and not yet answered; beyond it `inspect` refuses.
        deadline_seconds: within which an inspection is answered, where a request does not say otherwise.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: EngineOptions,
        *,
        meanwhile: str | None,
        decode_workers: int,
        max_queue: int,
        deadline_seconds: float,
    ) -> None:
        self.lineup = Lineup(bundle, options, self._deliver, meanwhile)
        self.admission = Admission(max_queue, deadline_seconds)
        self._max_pixels = options.max_pixels
        self._draining = False
        self._created = perf_counter()
        self._pool = ThreadPoolExecutor(decode_workers, "decode")

    @property
    def bundle(self) -> Bundle:
        """Of the engine that serves."""
        return self.lineup.serving.engine.bundle

    @property
    def backend_name(self) -> str | None:
        """The inference library of the engine that serves; None until it is open."""
        return self.lineup.serving.engine.name.get("backend")

    @property
    def elapsed(self) -> float:
        """Seconds since the service started."""
        return perf_counter() - self._created

    @property
    def health(self) -> Health:
        """The stage now: draining and a stalled engine go before what the engine last said."""
        worker = self.lineup.serving
        if worker.stalled:
            limit = worker.engine.stalled_seconds
            return Health(Stage.BROKEN, f"The engine has been busy with one image for over {limit:.0f} s.")
        if worker.health.ready and self._draining:
            return Health(Stage.DRAINING)
        return self.lineup.health

    def start(self) -> None:
        """Begin to open the engine and warm it up; returns at once, `health` tells how far it is."""
        self._loop = asyncio.get_running_loop()
        self.lineup.start()

    def drain(self) -> None:
        """Be no longer ready; what arrives on open connections is still served. May be called from a signal handler."""
        self._draining = True

    async def close(self) -> None:
        """Stop the threads; one that hangs in its engine is left behind after a few seconds."""
        await self.lineup.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check(self, deadline_seconds: float | None = None) -> None:
        """Raises NotReady or QueueFull where `submit` would refuse now."""
        health = self.lineup.serving.health
        if not health.ready:
            raise NotReady(health.sentence)
        self.admission.check(self._seconds(deadline_seconds))

    def submit(
        self,
        data: bytes,
        part_class: str | None,
        heatmap: HeatmapKind = HeatmapKind.NONE,
        deadline_seconds: float | None = None,
    ) -> asyncio.Future[Result]:
        """Begin to inspect one picture. Who cancels the future has it left out, unless the network runs it already.

        Args:
            data: the bytes of a picture in one of `engines.images.FORMATS`.
            part_class: its class; recognised when None.
            heatmap: the picture of the anomaly map to draw, which costs several times an inspection.
            deadline_seconds: after which the answer is of no use; None means the service's own.

        Raises:
            NotReady, QueueFull: before anything is decoded.
            UnknownPartClass: the bundle has no such class.

        The future raises:
            DeadlinePassed: it waited for too long.
            ImageError: the picture is refused.
            BackendError: the engine failed; `health` is broken from then on.
        """
        self.check(deadline_seconds)
        worker = self.lineup.serving
        if part_class is not None:
            worker.engine.detector.judge_classes.index_of(part_class)
        deadline = perf_counter() + self._seconds(deadline_seconds)
        job = Job(data, part_class, heatmap, self._loop.create_future(), deadline)
        is_alone = self.admission.depth == 0
        self.admission.accepted()
        worker.outstanding += 1
        if is_alone:
            worker.put(job)
        else:
            self._pool.submit(worker.decode, job)
        return job.future

    def _seconds(self, deadline_seconds: float | None) -> float:
        return self.admission.deadline_seconds if deadline_seconds is None else deadline_seconds

    def _deliver(self, worker: EngineWorker, job: Job, outcome: Outcome, inferred: float) -> None:
        if isinstance(outcome, BaseException):
            self._settle(worker, job, outcome)
        elif job.heatmap is HeatmapKind.NONE:
            self._finish(worker, job, outcome, inferred)
        else:
            self._pool.submit(self._draw, worker, job, outcome, inferred)

    def _draw(self, worker: EngineWorker, job: Job, inspection: Inspection, inferred: float) -> None:
        try:
            heatmap = draw_heatmap(job.heatmap, job.data, inspection, self._max_pixels)
        except Exception as error:
            self._settle(worker, job, error)
            return
        self._finish(worker, job, inspection, inferred, heatmap)

    def _finish(
        self, worker: EngineWorker, job: Job, inspection: Inspection, inferred: float, heatmap: Heatmap | None = None
    ) -> None:
        now = perf_counter()
        job.timing.postprocess = now - inferred
        job.timing.total = now - job.accepted
        image = job.image
        result = Result(inspection, image.width, image.height, heatmap, job.timing, worker.engine.name)
        self._settle(worker, job, result)

    def _settle(self, worker: EngineWorker, job: Job, outcome: Result | BaseException) -> None:
        self._loop.call_soon_threadsafe(self._answer, worker, job.future, outcome)

    def _answer(self, worker: EngineWorker, future: asyncio.Future[Result], outcome: Result | BaseException) -> None:
        self.admission.answered()
        worker.answered()
        if future.done():
            return
        if isinstance(outcome, BaseException):
            if isinstance(outcome, UnispectError):
                # What is foreseen needs no traceback, whose frames hold the picture until Python looks for rings.
                outcome.__traceback__ = outcome.__cause__ = outcome.__context__ = None
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
