"""The stages of a service's life, and which of them count as live and ready."""

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
    WARMING_UP = "warming up"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Health:
    """A stage, and one sentence on why where it is a bad one."""

    stage: Stage
    reason: str | None = None

    @property
    def ready(self) -> bool:
        """Whether inspections are welcome."""
        return self.stage is Stage.READY

    @property
    def live(self) -> bool:
        """Whether a restart would not help. A start that failed is live: a restart fails again."""
        return self.stage is not Stage.BROKEN
