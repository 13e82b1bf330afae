"""Metrics against definitions written out the slow way."""

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from build_engines.metrics import best_f1, image_auroc, per_region_overlap, pixel_auroc


def slow_pro(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """Bergmann et al. 2020: for every threshold, the mean share of each region that lies above it."""
    regions = []
    for index, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(index, labels == label) for label in range(1, count)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        points.append(((above & ~masks).sum() / (~masks).sum(), np.mean([above[i][r].mean() for i, r in regions])))
    rates, overlaps = np.array(points).T
    grid = np.linspace(0, limit, 20001)
    return float(np.trapezoid(np.interp(grid, rates, overlaps), grid) / limit)


@pytest.mark.parametrize("levels", [None, 12])
def test_pro_is_the_definition(levels: int | None) -> None:
    generator = np.random.default_rng(0)
    masks = np.zeros((4, 24, 24), bool)
    masks[0, 3:9, 3:9] = masks[0, 15:18, 12:22] = masks[1, 20:22, 2:4] = masks[2, 5:15, 5:15] = True
    maps = (generator.random((4, 24, 24)) + 0.6 * masks).astype(np.float32)
    if levels:
        maps = np.round(maps * levels) / levels
    assert per_region_overlap(maps, list(masks)) == pytest.approx(slow_pro(maps, masks), abs=2e-3)


def test_perfect_and_inverted_maps() -> None:
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:4, 2:4] = True
    maps = masks.astype(np.float32) + np.random.default_rng(0).random((2, 8, 8), np.float32) * 0.1
    assert pixel_auroc(maps, masks) == 1.0
    assert per_region_overlap(maps, list(masks)) == pytest.approx(1.0)
    assert per_region_overlap(-maps, list(masks)) == pytest.approx(0.0)


@pytest.mark.parametrize("levels", [None, 5])
def test_pixel_auroc_is_the_area_under_the_curve(levels: int | None) -> None:
    generator = np.random.default_rng(1)
    masks = generator.random((3, 40, 40)) < 0.05
    maps = (generator.random(masks.shape) + 0.4 * masks).astype(np.float32)
    if levels:
        maps = np.round(maps * levels) / levels
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)


def test_image_metrics() -> None:
    labels, scores = np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])
    assert image_auroc(labels, scores) == 0.75
    assert best_f1(labels, scores) == pytest.approx(0.8)
