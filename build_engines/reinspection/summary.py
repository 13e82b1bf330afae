"""What one engine says of an archive, part class by part class."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


@dataclass(frozen=True)
class ClassSummary:
    """One part class.

    Attributes:
        verdicts: images by verdict.
        unknown: images farther from the class than any of its held-out good ones.
        median: of the scores.
        threshold: of the class.
    """

    verdicts: Counter[str]
    unknown: int
    median: float
    threshold: float

    @property
    def images(self) -> int:
        return self.verdicts.total()


@dataclass(frozen=True)
class Summary:
    """What an output says of its first engine.

    Attributes:
        classes: by name, sorted.
        errors: images that could not be scored, and why, of each reason one.
    """

    classes: dict[str, ClassSummary]
    errors: int
    examples: dict[str, str]


def summarise(out: Path) -> Summary:
    """Summarise a finished output."""
    columns = ["path", "part_class", "verdict", "unknown_part", "score", "threshold", "error"]
    table = pq.read_table(out, columns=columns)
    failed = table.filter(pc.is_valid(table["error"]))
    found = table.filter(pc.is_null(table["error"]))
    named = found["part_class"].to_numpy()
    classes = {}
    for name in sorted(set(named)):
        rows = found.filter(pa.array(named == name))
        classes[name] = ClassSummary(
            Counter(rows["verdict"].to_pylist()),
            pc.sum(rows["unknown_part"]).as_py(),
            float(np.median(rows["score"].to_numpy())),
            rows["threshold"][0].as_py(),
        )
    examples = dict(zip(failed["error"].to_pylist(), failed["path"].to_pylist(), strict=True))
    return Summary(classes, len(failed), examples)
