"""Which inspections' pictures are kept."""

from dataclasses import dataclass
from typing import Self

from engines.scoring import Verdict

_SAMPLE = "sample:"


@dataclass(frozen=True, slots=True)
class PicturePolicy:
    """`failed`: those of parts that did not pass; `passed_share`: of those that did, a share in [0, 1]."""

    failed: bool
    passed_share: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `none`, `fails`, `all`, or `sample:SHARE`: the fails and that share of the passes.

        Raises ValueError for anything else.
        """
        match text:
            case "none":
                return cls(False, 0.0)
            case "fails":
                return cls(True, 0.0)
            case "all":
                return cls(True, 1.0)
        try:
            share = float(text.removeprefix(_SAMPLE)) if text.startswith(_SAMPLE) else -1.0
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            raise ValueError("it must be none, fails, all, or sample:SHARE with a share from 0 to 1")
        return cls(True, share)

    def keeps(self, verdict: Verdict, inspection_id: str) -> bool:
        """Whether an inspection's picture is kept. The sample is drawn by the random last digits of the id."""
        if verdict != "pass":
            return self.failed
        return int(inspection_id[-8:], 16) < self.passed_share * 2**32
