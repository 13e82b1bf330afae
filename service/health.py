"""The stages of a service's life, and which of them count as live and ready."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

# No image takes this long, nor this many times as long as the golden one with its many tiles on a slow device: the
# engine hangs and only a restart helps.
STALLED_SECONDS = 30.0
STALLED_RATIO = 10.0


class Stage(StrEnum):
    """From start to end; `failed` is a start that did not succeed, `broken` an engine that failed while running."""

    STARTING = "starting"
    OPENING = "opening the engine"
    COMPILING = "compiling the engine"
    WARMING_UP = "warming up"
    READY = "ready"
    NO_LEDGER = "waiting for the ledger"
    DRAINING = "draining"
    FAILED = "failed"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Health:
    """A stage, and one sentence on why or how far where there is something to say.

    Attributes:
        fraction: of the compiler's present step, in [0, 1]; None where nobody knows.
    """

    stage: Stage
    reason: str | None = None
    fraction: float | None = None

    @property
    def ready(self) -> bool:
        """Whether inspections are welcome."""
        return self.stage is Stage.READY

    @property
    def live(self) -> bool:
        """Whether a restart would not help. A start that failed is live: a restart fails again."""
        return self.stage is not Stage.BROKEN

    @property
    def sentence(self) -> str:
        """What a client is told that comes now."""
        return self.reason or f"The engine is not ready ({self.stage}); ask again in a second."


Report = Callable[[Health], None]
