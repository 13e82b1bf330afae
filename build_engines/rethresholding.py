"""Thresholds from good parts that people confirmed in production: the same network as a new version of its bundle."""

import math
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_engines.errors import LedgerError
from build_engines.ledger import OK, LedgerReader, Origin, Reviewed
from build_engines.part_classes import review_of
from engines import bundle as bundles
from engines import conformal
from engines.bundle import Bundle, PartClass
from engines.errors import ScoringError
from engines.files import folder_atomic

_SEED = 0
RECORD = "rethreshold"


@dataclass(frozen=True)
class Rates:
    """What thresholds promise: shares in (0, 1) of good parts. None leaves a class its own.

    Attributes:
        false_reject: that fail at most.
        review: that do not pass at most; 0 makes the verdict two-state.
    """

    false_reject: float | None = None
    review: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one class.

    Attributes:
        confirmed: good parts that people confirmed; of them `used` are as the line makes them.
        used: how many of them the thresholds come from; 0 where they come from the scores that the bundle had.
        kept: why they do; None where they do not.
    """

    confirmed: int
    used: int
    kept: str | None


def rethreshold(
    source: Bundle, ledger: LedgerReader | None, rates: Rates, out: Path, version: str
) -> tuple[Bundle, dict[str, Outcome]]:
    """Write a bundle with other thresholds to `out`, atomically, and tell what became of each class.

    A class takes the scores of its confirmed parts in place of those that it had, where there are enough of them for
    its rates and they are representative (see `representative`); otherwise it keeps its own.

    Args:
        ledger: of a service that ran this very engine; None changes rates alone.

    Raises:
        LedgerError: it cannot be read, knows nothing of the engine, or no class has enough confirmed parts.
        ScoringError: a rate that the scores cannot promise.
    """
    manifest = source.manifest
    origin = Origin(manifest.name, manifest.version, manifest.created)
    reviewed = [] if ledger is None else ledger.reviewed(origin)
    inspected = {} if ledger is None else ledger.inspected(origin)
    if ledger is not None and not inspected:
        raise LedgerError(
            f"{ledger.name} has no inspection by {manifest.name} {manifest.version} since it was made; give the ledger "
            "of a service that ran this bundle."
        )
    parts, outcomes = [], {}
    for part in manifest.part_classes:
        of_class = [one for one in reviewed if one.part_class == part.name]
        counts = {verdict: count for (name, verdict), count in inspected.items() if name == part.name}
        changed, outcomes[part.name] = _change(part, of_class, counts, rates)
        parts.append(changed)
    if ledger is not None and rates == Rates() and not any(outcome.used for outcome in outcomes.values()):
        name, outcome = next(iter(outcomes.items()))
        raise LedgerError(f"No class gets other thresholds from {ledger.name}; {name}: {outcome.kept}")
    record = {
        "bundle": f"{manifest.name} {manifest.version}",
        "confirmed": {name: outcome.used for name, outcome in outcomes.items() if outcome.used},
    }
    # What was measured on test images was measured at the thresholds before.
    metrics = {name: value for name, value in manifest.metrics.items() if name != "test"} | {RECORD: record}
    changes = {"part_classes": parts, "metrics": metrics, "version": version, "created": datetime.now(UTC)}
    with folder_atomic(out) as folder:
        for name in (bundles.MODEL, manifest.golden.file):
            shutil.copyfile(source.folder / name, folder / name)
        bundles.save_manifest(folder, manifest.model_copy(update=changes))
    return bundles.load(out), outcomes


def representative(reviewed: list[Reviewed], inspected: dict[str, int]) -> NDArray[np.float64]:
    """Scores of confirmed good parts as the line makes them: exchangeable with those to come.

    People look at what failed far more often than at what passed, and thresholds from all that they confirmed would be
    far too high. So of each verdict only so many confirmed parts are taken, drawn at random, as if it had been reviewed
    as seldom as the one that was reviewed the least.

    Args:
        reviewed: of one part class.
        inspected: images that the engine judged, by verdict.

    Returns:
        float64 [n], ascending.

    Raises:
        LedgerError: of a verdict there are inspections, and none was reviewed.
    """
    generator = np.random.default_rng(_SEED)
    by_verdict = {
        verdict: sorted((one for one in reviewed if one.verdict == verdict), key=lambda one: one.image_sha256)
        for verdict in sorted(inspected)
    }
    shares = {verdict: len(found) / inspected[verdict] for verdict, found in by_verdict.items()}
    unseen = next((verdict for verdict, share in shares.items() if not share), None)
    if unseen is not None:
        raise LedgerError(
            f"Of {inspected[unseen]} parts with the verdict {unseen} none was reviewed; review some of each verdict, "
            "drawn at random."
        )
    taken: list[float] = []
    for verdict, found in by_verdict.items():
        good = [one.score for one in found if one.label == OK]
        # Rounded up: of what failed there may be few, and without them the threshold would not keep its promise.
        count = math.ceil(len(good) * min(shares.values()) / shares[verdict] - 1e-9)
        taken += generator.choice(good, count, replace=False).tolist()
    return np.sort(np.array(taken, np.float64))


def _change(
    part: PartClass, reviewed: list[Reviewed], inspected: dict[str, int], rates: Rates
) -> tuple[PartClass, Outcome]:
    confirmed = sum(one.label == OK for one in reviewed)
    try:
        scores = representative(reviewed, inspected)
        return _with_scores(part, scores, rates), Outcome(confirmed, len(scores), None)
    except (LedgerError, ScoringError) as error:
        kept = part if rates == Rates() else _with_own_scores(part, rates)
        return kept, Outcome(confirmed, 0, str(error))


def _with_own_scores(part: PartClass, rates: Rates) -> PartClass:
    try:
        return _with_scores(part, np.array(part.good_scores), rates)
    except ScoringError as error:
        raise ScoringError(f"Class {part.name} cannot have these rates from the scores it has: {error}") from error


def _with_scores(part: PartClass, scores: NDArray[np.float64], rates: Rates) -> PartClass:
    rate = part.false_reject_rate if rates.false_reject is None else rates.false_reject
    review = rates.review if rates.review is not None else part.review.rate if part.review else None
    limit = conformal.threshold(scores, rate)
    return part.model_copy(
        update={
            "good_scores": np.sort(scores).tolist(),
            "false_reject_rate": rate,
            "threshold": limit,
            "pixel_threshold": min(part.pixel_threshold, limit),
            "review": review_of(scores, rate, review or None),
        }
    )
