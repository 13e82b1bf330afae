"""Accuracy of scores and maps, as the papers and as production measure it."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

PRO_LIMIT = 0.3


@dataclass(frozen=True)
class ClassMetrics:
    """One part class on its test images. Rates and areas in [0, 1]; pixel metrics None without masks.

    Attributes:
        image_auroc, average_precision, f1: of image scores; f1 at its best threshold.
        pixel_auroc, pro: of the maps; pro up to a false-positive rate of 0.3, normalised.
        false_reject, miss: at the deployed threshold: good pictures that fail, defective ones that pass.
        review_good, review_defective: shares of pictures that need a review; 0 where the verdict has two states.
        recognition: share of pictures whose part class the engine finds itself.
        unknown_good: share of good pictures that it calls an unknown part.
    """

    good: int
    defective: int
    image_auroc: float
    pixel_auroc: float | None
    pro: float | None
    average_precision: float
    f1: float
    false_reject: float
    miss: float
    review_good: float
    review_defective: float
    recognition: float
    unknown_good: float


def best_f1(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """The largest F1 over all thresholds."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def image_auroc(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve of image scores; labels True for defective."""
    return float(roc_auc_score(labels, scores))


def image_average_precision(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Average precision of image scores."""
    return float(average_precision_score(labels, scores))


def pixel_auroc(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float:
    """Area under the ROC curve over all pixels of maps and masks, both [N, H, W].

    By ranks (the Mann-Whitney statistic): over millions of pixels a fifth of the time of tracing the curve.
    """
    ordered = np.sort(maps, axis=None)
    defective = maps[masks]
    ranks = (np.searchsorted(ordered, defective, "left") + np.searchsorted(ordered, defective, "right") + 1) / 2
    positive, negative = len(defective), maps.size - len(defective)
    return float((ranks.sum() - positive * (positive + 1) / 2) / (positive * negative))


def per_region_overlap(maps: NDArray[np.float32], masks: Sequence[NDArray[np.bool_]]) -> float:
    """PRO (Bergmann et al. 2020, section 4.1): mean overlap with each connected region of the ground truth.

    Integrated over the false-positive rate to 0.3 and divided by it, exactly: every score is a threshold.

    Args:
        maps: float32 [N, H, W].
        masks: N masks, bool [H, W]; good images have empty ones.
    """
    weights = np.zeros(maps.shape, np.float64)
    regions = 0
    for weight, mask in zip(weights, masks, strict=True):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        regions += count - 1
        weight[mask] = 1.0 / stats[labels[mask], cv2.CC_STAT_AREA]
    order = np.argsort(maps, axis=None)[::-1]
    scores = maps.ravel()[order]
    overlap = np.cumsum(weights.ravel()[order]) / regions
    negative = weights.ravel()[order] == 0
    false_positive = np.cumsum(negative) / negative.sum()
    # Pixels of one score pass the threshold together.
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    rate, overlap = np.append(0.0, false_positive[last]), np.append(0.0, overlap[last])
    inside = rate <= PRO_LIMIT
    rate_cut = np.append(rate[inside], PRO_LIMIT)
    overlap_cut = np.append(overlap[inside], np.interp(PRO_LIMIT, rate, overlap))
    return float(np.trapezoid(overlap_cut, rate_cut) / PRO_LIMIT)
