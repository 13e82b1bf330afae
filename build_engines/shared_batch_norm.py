"""Batch normalisation of a batch that several processes share, by the statistics of all of it (Ioffe and Szegedy 2015,
arXiv 1502.03167), so that the processes train what one alone does. PyTorch's SyncBatchNorm is for GPUs alone.
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_OVER_IMAGES = (0, 2, 3)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` whose training statistics are over the images of all processes.

    Each of them must call it as often as the others, forwards and backwards.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] of this process to the same shape."""
        if not self.training:
            return super().forward(x)
        count, mean, variance = _statistics(x)
        self._follow(count, mean, variance)
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, variance, count, self.eps)
        return normalised

    @torch.no_grad()
    def _follow(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1.0 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += share * (mean - self.running_mean)
        # As BatchNorm2d does: unbiased in what it keeps, not in what it divides by.
        self.running_var += share * (variance * (count / (count - 1.0)) - self.running_var)


def share_statistics(network: nn.Module) -> None:
    """Let each batch normalisation in a network, which is not one itself, be over all processes from now on."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.BatchNorm2d:
                shared = SharedBatchNorm2d(layer.num_features, layer.eps, layer.momentum)
                shared.to(layer.weight.device).load_state_dict(layer.state_dict())
                setattr(parent, name, shared.train(layer.training))


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many values of a channel all processes have, and their mean and variance, [C]."""
    if x.device.type == "cpu":
        # Twenty times as fast there as `var_mean`.
        mean, variance = torch.batch_norm_update_stats(x.float(), None, None, 0.0)
    else:
        variance, mean = torch.var_mean(x.float(), _OVER_IMAGES, correction=0)
    # The variance as a difference of squares keeps no digit of float32 where the mean is far from zero.
    mean, variance = mean.double(), variance.double()
    count = mean.new_full((1,), x.numel() / x.shape[1])
    sums = torch.cat([count, count * mean, count * (variance + mean.square())])
    torch.distributed.all_reduce(sums)
    count, (mean, square) = sums[0], (sums[1:] / sums[0]).chunk(2)
    return count.float(), mean.float(), (square - mean.square()).clamp(min=0.0).float()


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance come from the x of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        # As if mean and variance were constants; how x moves them is added below.
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # The parameters' gradients are averaged over processes like any others; those of x need the sums now.
        sums = torch.cat([of_bias, of_weight])
        torch.distributed.all_reduce(sums)
        bias_mean, weight_mean = (sums / count).chunk(2)
        inverse = (variance + ctx.eps).rsqrt()
        slope = -weight * inverse.square() * weight_mean
        offset = -weight * inverse * bias_mean - slope * mean
        of_x.addcmul_(x, _by_channel(slope)).add_(_by_channel(offset))
        return of_x, of_weight, of_bias, None, None, None, None


def _by_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
