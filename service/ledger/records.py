"""An inspection as the ledger keeps it."""

from dataclasses import dataclass, fields
from typing import Any, Self

from sqlalchemy import Row

from engines.scoring import PartClassSource, Region, Verdict
from service.timing import STAGES, Timing


@dataclass(frozen=True, slots=True)
class InspectionRecord:
    """One row of `service.ledger.schema.inspections`, where each column is described.

    Attributes:
        time: of the result, microseconds since 1970 in UTC; the id begins with the same time in milliseconds.
        client: the API key's name, or the address without keys.
        regions: in pixels of the upright original image, worst first.
        width, height: of that image.
        image_sha256: of the file that was sent, 64 hexadecimal digits.
        timing: the five columns `decode_seconds` ... `total_seconds`.
    """

    id: str
    time: int
    part_id: str | None
    station: str | None
    client: str | None
    part_class: str
    part_class_source: PartClassSource
    unknown_part: bool
    score: float
    threshold: float
    p_value: float
    verdict: Verdict
    regions: tuple[Region, ...]
    engine_name: str
    engine_version: str
    precision: str
    backend: str
    width: int
    height: int
    image_sha256: str
    timing: Timing

    @property
    def engine(self) -> dict[str, str]:
        """The engine that judged, as answers name it."""
        return {
            "name": self.engine_name,
            "version": self.engine_version,
            "precision": self.precision,
            "backend": self.backend,
        }

    def row(self) -> dict[str, Any]:
        """The columns by name, for an insert."""
        row = {name: getattr(self, name) for name in _COLUMNS}
        for stage in STAGES:
            row[f"{stage}_seconds"] = getattr(self.timing, stage)
        return row

    @classmethod
    def of_row(cls, row: Row[Any]) -> Self:
        """From a row that holds at least the table's columns."""
        columns = row._mapping
        values = {name: columns[name] for name in _COLUMNS}
        values["regions"] = tuple(Region(**region) for region in columns["regions"])
        values["timing"] = Timing(**{stage: columns[f"{stage}_seconds"] for stage in STAGES})
        return cls(**values)


_COLUMNS = tuple(field.name for field in fields(InspectionRecord) if field.name != "timing")
