"""Puts engines of the store into service and takes them out again. What serves is on the disk before it is told."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from engines.bundle import Bundle
from engines.errors import UnispectError
from service.engine_store import EngineId, EngineStore, State
from service.errors import ActivationFailed, ActivationRunning, EngineExists, StoreFull, UnknownEngine
from service.inspector import Inspector
from service.metrics import Metrics
from service.shadow import Shadow

T = TypeVar("T")
_log = logging.getLogger(__name__)


class EngineControl:
    """Used on the event loop.

    Args:
        store: on whose disk engines are kept.
        state: as `EngineStore.open` gave it.
    """

    def __init__(
        self, store: EngineStore, state: State, inspector: Inspector, shadow: Shadow, metrics: Metrics
    ) -> None:
        self.store, self.state = store, state
        self._inspector, self._shadow, self._metrics = inspector, shadow, metrics
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Put the shadow of the last run to work again; returns at once."""
        if self.state.shadow is not None:
            self._do(self._resume_shadow(self.state.shadow))

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
        """Delete an engine. Raises UnknownEngine, or EngineExists where it is in use."""
        if engine in (self.state.active, self.state.shadow):
            raise EngineExists(f"The engine {engine} is in use; activate another one first.")
        await asyncio.to_thread(self.store.remove, engine)
        history = tuple(one for one in self.state.history if one != engine)
        await self._save(self.state.model_copy(update={"history": history}))

    async def set_shadow(self, engine: EngineId | None) -> None:
        """Let an engine see the same images in spare time, or none.

        Raises UnknownEngine, BundleError, or ActivationFailed where it cannot be used here.
        """
        bundle = None if engine is None else await asyncio.to_thread(self.store.load, engine)
        try:
            await self._shadow.use(bundle)
        except UnispectError as error:
            raise ActivationFailed(f"The engine {engine} cannot be the shadow: {error}") from error
        await self._save(self.state.model_copy(update={"shadow": engine}))

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

    async def _activate(self, bundle: Bundle) -> EngineId:
        engine, previous = EngineId.of(bundle), self.state.active
        try:
            await self._inspector.lineup.activate(bundle, self._committed)
        except (ActivationRunning, StoreFull):
            raise
        except UnispectError as error:
            raise ActivationFailed(f"The engine {engine} cannot be used and {previous} serves on: {error}") from error
        return previous

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
