"""Learning rates over a run: functions of the step alone, so that a resumed run needs no state of them."""

import math
from typing import Literal

Schedule = Literal["constant", "cosine", "onecycle"]

# Of the rate before the one cycle's rise, and after its fall, relative to the peak (as torch's OneCycleLR has them).
_CYCLE_START = 1 / 25
_CYCLE_END = _CYCLE_START / 1e4


def rate_factor(schedule: Schedule, warmup: float, step: int, steps: int) -> float:
    """The learning rate of a step relative to the settings', in [0, 1].

    Args:
        schedule: `constant`; `cosine`, which falls to zero along half a wave (Loshchilov & Hutter 2017, arXiv
            1608.03983); `onecycle`, which also rises along one (Smith & Topin 2018, arXiv 1708.07120).
        warmup: share of the steps, in [0, 1), in which the rate rises; linearly but for `onecycle`.
        step: in [0, steps).
        steps: of the whole run.
    """
    rise = warmup * steps
    if step < rise:
        share = step / rise
        return _wave(_CYCLE_START, 1.0, share) if schedule == "onecycle" else (step + 1) / (rise + 1)
    share = (step - rise) / (steps - rise)
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return _wave(1.0, 0.0, share)
        case "onecycle":
            return _wave(1.0, _CYCLE_END, share)


def _wave(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1.0 + math.cos(math.pi * share)) / 2.0
