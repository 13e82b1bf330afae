"""Centroids and thresholds of part classes, from what the written engine gives for good images."""

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from engines import conformal
from engines.backends import Backend, RawResult
from engines.bundle import PartClass, Review
from engines.errors import ScoringError

# Regions end where only one in a thousand places of good parts lies above.
_PIXEL_QUANTILE = 0.999
_BATCH = 8


def run_all(backend: Backend, pixels: NDArray[np.uint8], what: str) -> RawResult:
    """Results for uint8 [N, H, W, 3], a batch at a time. Shows progress."""
    starts = range(0, len(pixels), _BATCH)
    return RawResult.joined([backend.run(pixels[start : start + _BATCH]) for start in track(starts, what)])


def centroid_of(backend: Backend, part: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean embedding [C] of a class's images."""
    return np.asarray(run_all(backend, pixels, f"Centroid of {part}").embeddings.mean(axis=0))


def part_class(
    name: str, centroid: NDArray[np.float32], held_out: RawResult, rate: float, review_rate: float | None = None
) -> PartClass:
    """A class from its training centroid and from what the engine gives for its held-out images.

    Raises ScoringError where one of the rates is not attainable.
    """
    limit = conformal.threshold(held_out.scores, rate)
    return PartClass(
        name=name,
        centroid=centroid.tolist(),
        max_distance=float(np.linalg.norm(held_out.embeddings - centroid, axis=1).max()),
        good_scores=np.sort(held_out.scores).tolist(),
        false_reject_rate=rate,
        threshold=limit,
        pixel_threshold=min(limit, float(np.quantile(held_out.maps, _PIXEL_QUANTILE))),
        review=review_of(held_out.scores, rate, review_rate),
    )


def false_reject_rate(asked: float | None, held_out: int) -> float:
    """The rate asked for, or 1 %, or the smallest that `held_out` images can promise where that is more.

    Raises:
        ScoringError: `asked` is not attainable.
    """
    if asked is None:
        return max(conformal.DEFAULT_FALSE_REJECT_RATE, conformal.attainable_rate(held_out))
    conformal.threshold(np.zeros(held_out), asked)
    return asked


def review_of(scores: NDArray[np.floating], false_reject: float, asked: float | None) -> Review | None:
    """The second threshold, of good scores [n]; None where none is asked for.

    Args:
        false_reject: the rate of the first threshold.
        asked: the share of good parts that do not pass at most, those that fail among them.

    Raises:
        ScoringError: `asked` is not attainable, or so near to `false_reject` that n scores cannot tell them apart.
    """
    if asked is None:
        return None
    limit, n = conformal.threshold(scores, asked), len(scores)
    fails = conformal.rejected(n, false_reject)
    if conformal.rejected(n, asked) <= fails:
        raise ScoringError(
            f"A review rate of {asked:g} adds nothing to a false-reject rate of {false_reject:g} with {n} good images "
            f"of a class; ask for {conformal.rounded_up((fails + 1) / (n + 1))} or more."
        )
    return Review(rate=asked, threshold=limit)


def held_out_metrics(classes: list[PartClass], held_out: dict[str, RawResult]) -> dict[str, float]:
    """How often the nearest centroid names the class of a held-out image."""
    centroids = np.array([part.centroid for part in classes])
    right = [
        np.linalg.norm(result.embeddings[:, None] - centroids, axis=2).argmin(axis=1) == index
        for index, result in enumerate(held_out.values())
    ]
    return {"images": sum(map(len, right)), "class_recognition": float(np.concatenate(right).mean())}
