"""The shadow's inspections in the ledger, beside those of the engine that serves."""

from collections.abc import Callable

from service.ledger import schema
from service.ledger.ledger import Ledger
from service.shadow import ShadowInspection


def ledger_shadow(ledger: Ledger) -> Callable[[ShadowInspection], None]:
    """What records them; nobody waits for it."""

    def record(seen: ShadowInspection) -> None:
        inspection = seen.inspection
        ledger.submit(
            schema.shadow_inspections,
            {
                "id": seen.id,
                "engine_name": seen.engine["name"],
                "engine_version": seen.engine["version"],
                "score": inspection.score,
                "threshold": inspection.threshold,
                "p_value": inspection.p_value,
                "verdict": inspection.verdict,
                "part_class": inspection.part_class,
            },
        )

    return record
