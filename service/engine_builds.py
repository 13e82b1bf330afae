"""How far the engines are that are being opened or compiled, for people who wait for them."""

from dataclasses import dataclass
from enum import StrEnum

from service.engine_store import EngineId
from service.health import Health, Stage
from service.inspector import Inspector
from service.shadow import Shadow
from service.worker import EngineWorker


class Purpose(StrEnum):
    """What an engine is opened for."""

    SERVE = "to serve"
    SHADOW = "to be the shadow"


@dataclass(frozen=True, slots=True)
class Build:
    """An engine that is not open yet, or could not be opened.

    Attributes:
        health: its stage, a sentence, and the fraction of the compiler's present step.
        seconds: that it has taken so far, or took until it failed.
        log: the latest lines of the compiler, the newest last.
    """

    engine: EngineId
    purpose: Purpose
    health: Health
    seconds: float
    log: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether nothing more comes of it."""
        return self.health.stage is Stage.FAILED


def builds_of(inspector: Inspector, shadow: Shadow) -> list[Build]:
    """All there are. Called on the event loop."""
    lineup = inspector.lineup
    waiting = [worker for worker in (lineup.serving, lineup.candidate, lineup.failed) if worker is not None]
    builds = [_build(worker, Purpose.SERVE) for worker in waiting if not _is_open(worker)]
    if shadow.opening is not None:
        builds.append(_build(shadow.opening, Purpose.SHADOW))
    return builds


def _is_open(worker: EngineWorker) -> bool:
    return worker.health.stage in (Stage.READY, Stage.BROKEN)


def _build(worker: EngineWorker, purpose: Purpose) -> Build:
    engine = worker.engine
    return Build(EngineId.of(engine.bundle), purpose, worker.health, worker.opening_seconds, engine.build_log)
