"""Puts engines of the store into service and takes them out again. What serves is on the disk before it is told."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engines.bundle import Bundle
from engines.errors import UnispectError
from service.engine_store import EngineId, EngineStore, State
from service.errors import ActivationFailed, ActivationRunning, EngineExists, StoreFull, UnknownEngine
from service.inspector import Inspector
from service.metrics import Metrics
from service.shadow import Shadow
from service.worker import EngineWorker

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the engine that was to serve, or to be the shadow, is not.

    Attributes:
        log: the latest lines of the compiler, where one was needed.
    """

    sentence: str
    log: tuple[str, ...] = ()


class EngineControl:
    """Used on the event loop.

    Args:
        store: on whose disk engines are kept.
        state: as `EngineStore.open` gave it.

    Attributes:
        failure: of the latest change; None where it did not fail.
    """

    def __init__(
        self, store: EngineStore, state: State, inspector: Inspector, shadow: Shadow, metrics: Metrics
    ) -> None:
        self.store, self.state = store, state
        self.failure: Failure | None = None
        self._inspector, self._shadow, self._metrics = inspector, shadow, metrics
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Put the shadow of the last run to work again; returns at once."""
        if self.state.shadow is not None:
            self._do(self._resume_shadow(self.state.shadow))

    async def patiently(self, act: Coroutine[Any, Any, object], seconds: float) -> None:
        """Do one of the acts below and wait for it, for so long at most; it goes on, and `failure` is how it ended.

        Raises what the act raises within that time.
        """
        task = self._do(act)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            task.result()
        else:
            task.add_done_callback(_note)

    async def add(self, archive: Path) -> tuple[Bundle, bool]:
        """Keep an uploaded bundle; see `EngineStore.add`. Raises StoreFull too."""
        try:
            return await asyncio.to_thread(self.store.add, archive)
        except OSError as error:
            raise StoreFull(f"{self.store.folder} takes no more engines ({error.strerror}); delete some.") from error

    async def activate(self, engine: EngineId) -> EngineId:
        """Let an engine of the store serve: opened and proven beside the one that does, then swapped.

        It goes on where the caller gives up. Returns what served before.

        Raises:
            UnknownEngine, BundleError: the store has no such engine.
            ActivationRunning: another one is being activated.
            ActivationFailed: it cannot be used here; the one that serves stays.
        """
        bundle = await asyncio.to_thread(self.store.load, engine)
        return await asyncio.shield(self._do(self._activate(bundle)))

    async def rollback(self) -> EngineId:
        """Let the engine serve again that served before. Returns what served until now. Raises as `activate` does."""
        if not self.state.history:
            raise UnknownEngine(f"No engine served before {self.state.active}; activate one by its version.")
        previous = await self.activate(self.state.history[-1])
        # Twice back is two versions back, and not there and back again.
        await self._save(self.state.model_copy(update={"history": self.state.history[:-2]}))
        return previous

    async def remove(self, engine: EngineId) -> None:
        """Delete an engine. Raises UnknownEngine, EngineExists where it is in use, or StoreFull where it stays."""
        opening = (self._inspector.lineup.candidate, self._shadow.opening)
        coming = [EngineId.of(worker.engine.bundle) for worker in opening if worker is not None]
        if engine in (self.state.active, self.state.shadow, *coming):
            raise EngineExists(f"The engine {engine} is in use; activate another one first.")
        try:
            await asyncio.to_thread(self.store.remove, engine)
        except OSError as error:
            raise StoreFull(f"The engine {engine} cannot be deleted ({error.strerror}); mend its disk.") from error
        history = tuple(one for one in self.state.history if one != engine)
        await self._save(self.state.model_copy(update={"history": history}))

    async def set_shadow(self, engine: EngineId | None) -> None:
        """Let an engine see the same images in spare time, or none.

        Raises:
            UnknownEngine, BundleError: the store has no such engine.
            ActivationRunning: another one is being opened.
            ActivationFailed: it cannot be used here; then there is none.
        """
        bundle = None if engine is None else await asyncio.to_thread(self.store.load, engine)
        worker = None if bundle is None else self._shadow.worker(bundle)
        try:
            await self._shadow.use(worker)
        except ActivationRunning:
            raise
        except UnispectError as error:
            failed = ActivationFailed(f"The engine {engine} cannot be the shadow: {error}")
            raise self._failed(failed, worker) from error
        await self._save(self.state.model_copy(update={"shadow": engine}))
        self.failure = None

    def _do(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _resume_shadow(self, engine: EngineId) -> None:
        try:
            await self.set_shadow(engine)
        except UnispectError as error:
            _log.error("The shadow %s does not run: %s", engine, error)
            self.failure = self.failure or Failure(str(error))

    async def _activate(self, bundle: Bundle) -> EngineId:
        engine, previous = EngineId.of(bundle), self.state.active
        lineup = self._inspector.lineup
        worker = lineup.worker(bundle)
        try:
            await lineup.activate(worker, self._committed)
        except ActivationRunning:
            raise
        except StoreFull as error:
            self._failed(error, worker)
            raise
        except UnispectError as error:
            failed = ActivationFailed(f"The engine {engine} cannot be used and {previous} serves on: {error}")
            raise self._failed(failed, worker) from error
        self.failure = None
        return previous

    def _failed(self, error: UnispectError, worker: EngineWorker | None) -> UnispectError:
        self.failure = Failure(str(error), () if worker is None else worker.engine.build_log)
        return error

    async def _committed(self, bundle: Bundle) -> None:
        """The new engine is proven and not yet in service."""
        self._metrics.know(bundle)
        engine, previous = EngineId.of(bundle), self.state.active
        history = (*self.state.history, *([previous] if previous != engine else []))
        await self._save(self.state.model_copy(update={"active": engine, "history": history}))

    async def _save(self, state: State) -> None:
        try:
            await asyncio.to_thread(self.store.save, state)
        except OSError as error:
            raise StoreFull(f"{self.store.folder} cannot be written ({error.strerror}); free some space.") from error
        self.state = state


def _note(act: asyncio.Task[Any]) -> None:
    """Nobody waits for it any more."""
    if not act.cancelled() and (error := act.exception()) is not None:
        _log.error("The engines are as they were: %s", error)
