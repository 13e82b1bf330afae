"""Fresh batch statistics are those of the weights as they are."""

import torch
from torch import nn

from build_engines.batch_norm import freeze_statistics, fresh_statistics


def test_statistics_are_the_mean_over_the_blocks_batches() -> None:
    layer, frozen = nn.BatchNorm2d(3).train(), nn.BatchNorm2d(3).eval()
    layer.running_mean.fill_(100.0)
    frozen.running_mean.fill_(7.0)
    batches = [torch.randn(4, 3, 5, 5) + shift for shift in (0.0, 2.0, 7.0)]
    with fresh_statistics(nn.ModuleList([layer, frozen])):
        for batch in batches:
            layer(batch)
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(layer.running_mean, expected)
    assert torch.equal(frozen.running_mean, torch.full((3,), 7.0))


def test_momentum_comes_back_after_an_interrupt() -> None:
    layer = nn.BatchNorm2d(3, momentum=0.2).train()
    try:
        with fresh_statistics(layer):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert layer.momentum == 0.2


def test_frozen_statistics_stay_while_weights_train() -> None:
    layer = nn.BatchNorm2d(3).train()
    freeze_statistics(layer)
    before = layer.running_mean.clone()
    layer(torch.randn(4, 3, 5, 5) + 9).sum().backward()
    assert torch.equal(layer.running_mean, before)
    assert layer.weight.grad is not None
