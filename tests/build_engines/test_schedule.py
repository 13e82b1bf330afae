"""Learning rates step by step, beside torch's own schedulers."""

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from build_engines.schedule import Schedule, rate_factor

STEPS, RISE = 200, 40


def rates_of(scheduler: LRScheduler) -> list[float]:
    rates = []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


@pytest.fixture
def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("rise", [0, RISE])
def test_rates_are_torchs(optimizer: SGD, schedule: Schedule, rise: int) -> None:
    rest: LRScheduler = ConstantLR(optimizer, 1.0)
    if schedule == "cosine":
        rest = CosineAnnealingLR(optimizer, STEPS - rise)
    if rise:
        rest = SequentialLR(optimizer, [LinearLR(optimizer, 1 / (rise + 1), total_iters=rise), rest], [rise])
    ours = [rate_factor(schedule, rise / STEPS, step, STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(rates_of(rest), abs=1e-9)


def test_one_cycle_is_torchs_within_a_step(optimizer: SGD) -> None:
    theirs = rates_of(OneCycleLR(optimizer, 1.0, STEPS, pct_start=RISE / STEPS, cycle_momentum=False))
    ours = [rate_factor("onecycle", RISE / STEPS, step, STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(theirs, abs=0.03)
    assert ours[0] == pytest.approx(1 / 25)
    assert max(ours) == ours[RISE] == 1.0
    assert ours[-1] < 1e-3
