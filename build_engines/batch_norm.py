"""Batch statistics: taken anew for weights as they are, frozen, and those of a batch that several processes share.

Taken anew ("precise BN", Wu and Johnson 2021, arXiv 2105.07576) because the running averages lag behind weights that
still move. Students differ in how much that hurts: Reverse Distillation with Adam lost 14 points of AUROC in an epoch
and had them back in the next (docs/benchmarks.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def fresh_statistics(network: nn.Module) -> Iterator[None]:
    """While the block lasts, statistics are plain means over all batches that run in it, which leave the old ones out.

    Layers in eval mode, the frozen teacher's, keep theirs.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def freeze_statistics(network: nn.Module) -> None:
    """Train on with statistics as they are, until the network is next put into train mode.

    A batch that holds an unusual image is normalised by statistics which that image is part of; alone it drives the
    network to a hundred times its usual strength, layer upon layer. Only a network that trains as it will be run
    learns to bear it, and quantization needs that: one such image sets the range for all.
    """
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
