"""How far an engine's results are from those of the float32 one."""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import spearmanr

from engines.backends import RawResult


class Differences(BaseModel):
    """Of two engines on the same images.

    Attributes:
        score_order_spearman: rank correlation of the scores, mean over classes; 1 is the same order.
        score_ratio_median: of the engine's score over the float32 one's.
        map_error_relative: mean absolute difference of the maps over the mean magnitude of the float32 maps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    score_order_spearman: float
    score_ratio_median: float
    map_error_relative: float


def differences(expected: Mapping[str, RawResult], found: Mapping[str, RawResult]) -> Differences:
    """Compare an engine's results by class with the float32 engine's."""
    orders = [spearmanr(expected[part].scores, found[part].scores).statistic for part in found]
    ratios = np.concatenate([found[part].scores / np.maximum(expected[part].scores, 1e-12) for part in found])
    maps, wanted = (np.concatenate([results[part].maps for part in found]) for results in (found, expected))
    return Differences(
        score_order_spearman=float(np.nan_to_num(np.mean(orders))),
        score_ratio_median=float(np.median(ratios)),
        map_error_relative=float(np.abs(maps - wanted).mean() / np.abs(wanted).mean()),
    )
