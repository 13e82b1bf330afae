"""Which engine serves, and how another takes its place: opened and proven beside it, then swapped."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

from engines.bundle import Bundle
from engines.errors import UnispectError
from service.errors import ActivationRunning
from service.health import Health, Stage
from service.worker import Deliver, EngineOptions, EngineWorker

_log = logging.getLogger(__name__)


class Lineup:
    """The engine that serves and the one that is about to. Used on the event loop.

    Args:
        bundle: of the engine that serves first.
        options: of every engine.
        deliver: gets what the engines give.
        meanwhile: the backend that serves while that engine is compiled; None means that nothing does.

    Attributes:
        serving: takes every new picture.
        candidate: opens beside it, to take its place.
        failed: was to serve, and could not be opened while another backend stood in.
    """

    def __init__(self, bundle: Bundle, options: EngineOptions, deliver: Deliver, meanwhile: str | None) -> None:
        self._options, self._deliver, self._meanwhile = options, deliver, meanwhile
        self.serving = self.worker(bundle)
        self.candidate: EngineWorker | None = None
        self.failed: EngineWorker | None = None
        self._remark: str | None = None
        self._retired: set[EngineWorker] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def health(self) -> Health:
        """Of the engine that serves; where it is ready, what else there is to know."""
        health = self.serving.health
        if not health.ready:
            return health
        if self.candidate is not None and not self.candidate.health.ready:
            coming = self.candidate.health
            what = coming.reason or coming.stage
            return Health(
                Stage.READY, f"{self.serving.engine.name['backend']} serves meanwhile: {what}", coming.fraction
            )
        return Health(Stage.READY, self._remark)

    def worker(self, bundle: Bundle, backend: str | None = None) -> EngineWorker:
        """A worker with the service's options, not yet started."""
        return EngineWorker.of(bundle, self._options, self._deliver, backend)

    def start(self) -> None:
        """Begin to open the first engine."""
        first = self.serving
        first.start(lambda: self._do(self._stand_in(first)) if self._meanwhile else None)

    async def activate(self, candidate: EngineWorker, proven: Callable[[Bundle], Awaitable[None]]) -> None:
        """Let an engine take over: no request fails, none is answered by two engines.

        Args:
            candidate: as `worker` makes it.
            proven: called once the engine is ready, just before it serves; where it raises, it does not.

        Raises:
            ActivationRunning: another one is about to.
            UnispectError: it cannot be used here; the one that serves stays.
        """
        if self.candidate is not None:
            name = self.candidate.engine.name
            raise ActivationRunning(f"The engine {name['name']} {name['version']} is being activated; wait for it.")
        self.candidate = candidate
        try:
            await candidate.start()
            await proven(candidate.engine.bundle)
        except BaseException:
            candidate.retire()
            raise
        finally:
            self.candidate = None
        self._swap(candidate)

    async def close(self) -> None:
        """Stop all threads."""
        for task in self._tasks:
            task.cancel()
        workers = {self.serving, *self._retired, *([self.candidate] if self.candidate else [])}
        await asyncio.gather(*(worker.close() for worker in workers))

    async def _stand_in(self, first: EngineWorker) -> None:
        """Serve on another backend while the first engine is compiled, and for good where that fails."""
        bundle = first.engine.bundle
        stand_in = self.worker(bundle, self._meanwhile)
        self.candidate, self.serving = first, stand_in
        try:
            await stand_in.start()
            await first.opened()
        except UnispectError as error:
            self.failed = first
            if stand_in.health.ready:
                name = stand_in.engine.name["backend"]
                self._remark = f"{name} serves, for the engine could not be compiled: {error}"
        else:
            self._swap(first)
        finally:
            self.candidate = None

    def _swap(self, worker: EngineWorker) -> None:
        previous, self.serving = self.serving, worker
        self._remark, self.failed = None, None
        self._retired = {one for one in self._retired if one.alive} | {previous}
        previous.retire()
        _log.info("Engine %(name)s %(version)s on %(backend)s serves from now on.", worker.engine.name)

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
