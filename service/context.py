"""The objects that the routes of one application share."""

import asyncio
from dataclasses import dataclass

from fastapi import Request

from service.afterwards import Afterwards
from service.drift_monitor import DriftMonitor
from service.engine_control import EngineControl
from service.health import Health, Stage
from service.history import History
from service.inspector import Inspector
from service.ledger.ledger import Ledger
from service.live import Live
from service.metrics import Metrics
from service.picture_store import PictureStore
from service.reading import ReadingThreads
from service.recent import RecentPictures
from service.recorder import Recorder
from service.security.keyring import Keyring
from service.security.quotas import Quotas
from service.security.sessions import Sessions
from service.security.verifier import Verifier
from service.settings import Settings
from service.shadow import Shadow
from service.statistics import StatisticsReader
from service.telemetry import Telemetry
from service.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Context:
    """What `assemble` makes."""

    inspector: Inspector
    engines: EngineControl
    shadow: Shadow
    metrics: Metrics
    afterwards: Afterwards
    ledger: Ledger
    recorder: Recorder
    history: History
    statistics: StatisticsReader
    reading: ReadingThreads
    pictures: PictureStore
    recent: RecentPictures
    live: Live
    settings: Settings
    drift: DriftMonitor
    telemetry: Telemetry
    tracing: Tracing | None
    keyring: Keyring
    verifier: Verifier
    sessions: Sessions
    quotas: Quotas | None

    @property
    def health(self) -> Health:
        """The stage now: an engine that is ready needs a ledger that can be written."""
        health, problem = self.inspector.health, self.ledger.problem
        return Health(Stage.NO_LEDGER, problem) if health.ready and problem is not None else health

    def check(self, deadline_seconds: float | None) -> None:
        """Raises NotReady, QueueFull or LedgerFailed where an inspection would be refused now: before its body is read.

        Args:
            deadline_seconds: in which it is to be answered; None means the service's own.
        """
        self.inspector.check(deadline_seconds)
        self.ledger.check()

    async def start(self) -> None:
        """Start all threads and tasks; the engine is ready later."""
        self.inspector.start()
        await self.ledger.start()
        self.telemetry.start()
        self.pictures.start()
        self.engines.start()

    async def close(self) -> None:
        """Stop them; the ledger after all that writes to it."""
        self.afterwards.flush()
        self.live.close()
        self.telemetry.close()
        await asyncio.gather(self.inspector.close(), self.shadow.close())
        self.reading.close()
        await asyncio.to_thread(self.pictures.close)
        await self.ledger.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    def drain(self) -> None:
        """Be no longer ready, and end what has no end of its own. May be called by a signal's handler on the loop."""
        self.inspector.drain()
        asyncio.get_running_loop().call_soon_threadsafe(self.live.close)


def context_of(request: Request) -> Context:
    """The objects of the application that a request came to."""
    context: Context = request.app.state.context
    return context
