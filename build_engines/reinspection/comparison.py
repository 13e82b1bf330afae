"""Two engines over the same images: which verdicts change, and how alike their scores are."""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

from build_engines.reinspection.columns import AGAINST, to_parquet
from engines.files import write_atomic

_COLUMNS = ("part_class", "verdict", "score", "threshold", "error")
# A correlation of two points is always one.
_FEWEST_POINTS = 3


@dataclass(frozen=True)
class ClassComparison:
    """One part class, as the engine itself names it, under two engines.

    Attributes:
        verdicts: images by verdict of the other engine and of the engine.
        renamed: images that the other engine takes for another class.
        pearson, spearman: correlation of the scores, in [-1, 1]; None where it has none.
    """

    verdicts: Counter[tuple[str, str]]
    renamed: int
    pearson: float | None
    spearman: float | None

    @property
    def images(self) -> int:
        return self.verdicts.total()

    @property
    def changed(self) -> int:
        """Images whose verdict is another one."""
        return sum(count for (before, after), count in self.verdicts.items() if before != after)

    def judged(self, verdict: str) -> tuple[int, int]:
        """Images of a verdict: by the other engine, and by the engine."""
        before = sum(count for (one, _), count in self.verdicts.items() if one == verdict)
        return before, sum(count for (_, one), count in self.verdicts.items() if one == verdict)


@dataclass(frozen=True)
class Comparison:
    """What an output says of two engines.

    Attributes:
        classes: by name, sorted.
        total: of all classes, without correlations, for scores of two classes have no common scale.
        failed: images that one engine or both have no findings of.
        changed: all columns of the images whose verdict changed, those first whose score over its threshold changed
            most.
    """

    classes: dict[str, ClassComparison]
    total: ClassComparison
    failed: int
    changed: pa.Table


def compare(out: Path) -> Comparison:
    """Compare the two engines of a finished output."""
    wanted = [prefix + name for prefix in ("", AGAINST) for name in _COLUMNS]
    table = pq.read_table(out, columns=wanted)
    both = pc.and_(pc.is_null(table["error"]), pc.is_null(table[f"{AGAINST}error"]))
    found = table.filter(both)
    named = found["part_class"].to_numpy()
    classes = {name: _compare(found.filter(pa.array(named == name))) for name in sorted(set(named))}
    total = ClassComparison(
        sum((one.verdicts for one in classes.values()), Counter()),
        sum(one.renamed for one in classes.values()),
        None,
        None,
    )
    return Comparison(classes, total, len(table) - len(found), _changed(out))


def write_changed(comparison: Comparison, path: Path) -> None:
    """Write the images whose verdict changed as Parquet, atomically."""
    write_atomic(path, to_parquet(comparison.changed))


def _compare(table: pa.Table) -> ClassComparison:
    verdicts = zip(table[f"{AGAINST}verdict"].to_pylist(), table["verdict"].to_pylist(), strict=True)
    renamed = pc.sum(pc.not_equal(table["part_class"], table[f"{AGAINST}part_class"])).as_py()
    scores = table[f"{AGAINST}score"].to_numpy(), table["score"].to_numpy()
    return ClassComparison(
        Counter(verdicts), renamed, _correlation(stats.pearsonr, *scores), _correlation(stats.spearmanr, *scores)
    )


def _correlation(measure: object, before: NDArray[np.float64], after: NDArray[np.float64]) -> float | None:
    if len(before) < _FEWEST_POINTS:
        return None
    with warnings.catch_warnings():
        # Of scores that are all the same.
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        value = float(measure(before, after).statistic)  # type: ignore[operator]
    return value if np.isfinite(value) else None


def _changed(out: Path) -> pa.Table:
    differs = pc.field("verdict") != pc.field(f"{AGAINST}verdict")
    table = pq.read_table(out, filters=differs).replace_schema_metadata()
    before, after = (
        table[f"{prefix}score"].to_numpy() / np.maximum(table[f"{prefix}threshold"].to_numpy(), 1e-12)
        for prefix in (AGAINST, "")
    )
    return table.take(pa.array(np.argsort(-np.abs(after - before), kind="stable")))
