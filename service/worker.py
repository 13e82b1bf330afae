"""The thread that owns an engine: it opens it, runs what is decoded in batches, and closes it.

One thread, for no backend is thread-safe, and a GPU's context belongs to the thread that made it.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter

from engines.bundle import Bundle
from engines.errors import BackendError, UnispectError
from engines.scoring import Inspection
from service.engine import Engine
from service.errors import DeadlinePassed, StartError
from service.health import Health, Stage
from service.jobs import Job

_JOIN_SECONDS = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How every engine of the service is opened and run.

    Attributes:
        backend: one of `engines.backends.BackendName`.
        threads: of the inference library; 0 means one per core.
        cache_dir: where compiled networks are kept.
        max_batch: images in one run of the network; 0 is what the backend gains from.
        max_delay: seconds that a batch waits at most for images that are being decoded. A lone image never waits.
        max_pixels: what a picture may declare.
    """

    backend: str
    threads: int
    cache_dir: Path
    max_pixels: int
    max_batch: int = 0
    max_delay: float = 0.0


Outcome = Inspection | BaseException
Deliver = Callable[["EngineWorker", Job, Outcome, float], None]


class EngineWorker:
    """An engine at work. Made, started and stopped on the event loop.

    Args:
        engine: not yet open.
        deliver: gets each job with its inspection or error and when the network was done, on this worker's thread or on
            that which decodes.
        max_batch, max_delay, max_pixels: see `EngineOptions`.

    Attributes:
        health: how far the engine is.
        outstanding: jobs accepted for this engine and not yet answered; counted on the event loop.
        largest_batch: images run together at most, once the engine is open.
    """

    def __init__(self, engine: Engine, deliver: Deliver, *, max_batch: int, max_delay: float, max_pixels: int) -> None:
        self.engine = engine
        self.health = Health(Stage.STARTING)
        self.outstanding = 0
        self.largest_batch = max_batch
        self._deliver, self._max_delay, self._max_pixels = deliver, max_delay, max_pixels
        self._inferring_since: float | None = None
        self._opening_since: float | None = None
        self._opened_after: float | None = None
        self._typical_seconds = 0.0
        self._retired = False
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)

    @classmethod
    def of(cls, bundle: Bundle, options: EngineOptions, deliver: Deliver, backend: str | None = None) -> "EngineWorker":
        """A worker for a bundle's engine, on another backend than that of the options where one is given."""
        engine = Engine(
            bundle, backend=backend or options.backend, threads=options.threads, cache_dir=options.cache_dir
        )
        return cls(
            engine, deliver, max_batch=options.max_batch, max_delay=options.max_delay, max_pixels=options.max_pixels
        )

    def start(self, compiling: Callable[[], None] = lambda: None) -> asyncio.Future[None]:
        """Begin to open the engine. The future is done when it is ready, and raises what kept it from being so.

        Args:
            compiling: called on the event loop before minutes of compiling.
        """
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._compiling = compiling
        self._opening_since = perf_counter()
        self._thread.start()
        return self._opened

    def opened(self) -> asyncio.Future[None]:
        """What `start` returned."""
        return self._opened

    @property
    def opening_seconds(self) -> float:
        """That the engine took to be opened, or has taken so far."""
        if self._opening_since is None:
            return 0.0
        return perf_counter() - self._opening_since if self._opened_after is None else self._opened_after

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def stalled(self) -> bool:
        """Whether the engine has been busy for longer than any image takes."""
        since = self._inferring_since
        return since is not None and perf_counter() - since > self.engine.stalled_seconds

    def put(self, job: Job) -> None:
        """Run a job, which is decoded on this worker's thread where it is not yet. May be called from any thread."""
        self._jobs.put(job)

    def decode(self, job: Job) -> None:
        """Decode a job on the calling thread, while the network runs others, and have it run."""
        if self._decoded(job):
            self._jobs.put(job)

    def retire(self) -> None:
        """Take no new jobs; stop once those that were accepted are answered."""
        self._retired = True
        self._stop_when_idle()

    def answered(self) -> None:
        """One of this engine's jobs has been answered."""
        self.outstanding -= 1
        if self._retired:
            self._stop_when_idle()

    async def close(self) -> None:
        """Stop now; a thread that hangs in its engine is left behind after a few seconds."""
        self.engine.cancel()
        self._jobs.put(None)
        if self.alive:
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)

    def _stop_when_idle(self) -> None:
        if self.outstanding == 0:
            self.engine.cancel()
            self._jobs.put(None)

    def _work(self) -> None:
        error = self._open()
        self._opened_after = self.opening_seconds
        self._loop.call_soon_threadsafe(self._tell_opened, error)
        if error is not None:
            return
        while (job := self._jobs.get()) is not None:
            self._run(self._batch(job))
        # A device that failed takes nothing back.
        if self.health.live:
            self.engine.close()

    def _open(self) -> UnispectError | None:
        def tell(health: Health) -> None:
            self.health = health

        def compiling() -> None:
            self._loop.call_soon_threadsafe(self._compiling)

        try:
            self.engine.open(tell, compiling)
        except Exception as error:
            if not self.engine.cancelled:
                _log.exception("The engine cannot be used.")
            known = error if isinstance(error, UnispectError) else None
            reason = known or StartError("The engine cannot be opened; see the log.")
            self.health = Health(Stage.FAILED, str(reason))
            return reason
        self.largest_batch = self.largest_batch or self.engine.detector.backend.largest_batch
        self.health = Health(Stage.READY)
        return None

    def _tell_opened(self, error: UnispectError | None) -> None:
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)
            # Whoever does not wait for it reads `health`.
            self._opened.exception()

    def _batch(self, first: Job) -> list[Job]:
        """The first job and those that are ready, or will be within the delay because they are being decoded."""
        batch = [first]
        until = perf_counter() + min(self._max_delay, self._typical_seconds)
        while len(batch) < self.largest_batch:
            others_come = self.outstanding > len(batch)
            try:
                job = self._jobs.get(timeout=max(0.0, until - perf_counter()) if others_come else 0.0)
            except Empty:
                break
            if job is None:
                # Stop after this batch.
                self._jobs.put(None)
                break
            batch.append(job)
        return batch

    def _decoded(self, job: Job) -> bool:
        start = perf_counter()
        try:
            if start > job.deadline:
                raise DeadlinePassed.in_queue(start - job.accepted)
            job.image = self.engine.detector.decode(job.data, self._max_pixels)
        except Exception as error:
            self._deliver(self, job, error, start)
            return False
        job.decoded = perf_counter()
        job.timing.queue = start - job.accepted
        job.timing.decode = job.decoded - start
        return True

    def _run(self, batch: list[Job]) -> None:
        batch = [job for job in batch if job.decoded or self._decoded(job)]
        start = perf_counter()
        jobs = [job for job in batch if self._is_wanted(job, start)]
        if not jobs:
            return
        self._inferring_since = start
        for job in jobs:
            job.timing.queue += start - job.decoded
        detector = self.engine.detector
        try:
            raw = detector.infer([job.image for job in jobs])
        except Exception as error:
            self._note(error)
            for job in jobs:
                self._deliver(self, job, error, perf_counter())
            return
        finally:
            self._inferring_since = None
        inferred = perf_counter()
        self._typical_seconds = inferred - start
        for index, job in enumerate(jobs):
            job.timing.inference = inferred - start
            outcome: Outcome
            try:
                outcome = detector.judge(raw, index, job.image, job.part_class)
            except Exception as error:
                self._note(error)
                outcome = error
            self._deliver(self, job, outcome, inferred)

    def _is_wanted(self, job: Job, now: float) -> bool:
        if not self.health.live:
            self._deliver(self, job, BackendError(str(self.health.reason)), now)
        elif job.future.cancelled():
            self._deliver(self, job, asyncio.CancelledError(), now)
        # One that would be late is not begun: others wait for the engine.
        elif now + self._typical_seconds > job.deadline:
            # One slow run must not have all refused that come after it.
            self._typical_seconds /= 2
            self._deliver(self, job, DeadlinePassed.in_queue(now - job.accepted), now)
        else:
            return True
        return False

    def _note(self, error: Exception) -> None:
        if isinstance(error, BackendError):
            _log.exception("The engine failed; the service is no longer live.")
            self.health = Health(Stage.BROKEN, str(error))
