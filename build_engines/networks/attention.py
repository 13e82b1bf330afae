"""Convolutional attention (CBAM, Woo et al. 2018, arXiv 1807.06521), which DCAM puts on the student in training."""

from typing import Literal

import torch
from torch import Tensor, nn

Attention = Literal["channel", "spatial", "both"]
_REDUCTION = 8
_WINDOW = 7


class ChannelAttention(nn.Module):
    """A weight in (0, 1) for each channel of an image, from its mean and maximum (section 3.1, equation 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // _REDUCTION)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to the same shape."""
        weights = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * weights[:, :, None, None]


class SpatialAttention(nn.Module):
    """A weight in (0, 1) for each location, from the mean and maximum over channels (section 3.2, equation 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, _WINDOW, padding=_WINDOW // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to the same shape."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(pooled))


def build_attention(kind: Attention, channels: int) -> nn.Sequential:
    """One stage's attention; with both kinds, channels come first, as in the paper."""
    parts: list[nn.Module] = []
    if kind in ("channel", "both"):
        parts.append(ChannelAttention(channels))
    if kind in ("spatial", "both"):
        parts.append(SpatialAttention())
    return nn.Sequential(*parts)
