"""ResNet trunk up to layer3 (He et al. 2016, arXiv 1512.03385), with torchvision's weight names."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., figure 5 left)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


@dataclass(frozen=True)
class Architecture:
    """Blocks per stage, and channels of layer1, layer2, layer3."""

    blocks: tuple[int, int, int]
    channels: tuple[int, int, int]


ARCHITECTURES = {
    "resnet18": Architecture((2, 2, 2), (64, 128, 256)),
    # Half the width: the project's own teacher, small enough to be shipped.
    "resnet18_half": Architecture((2, 2, 2), (32, 64, 128)),
}


class ResNetTrunk(nn.Module):
    """conv1 to layer3; layer4 and fc are not needed by distillation."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.channels
        self.channels = widths
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(widths[0], widths[0], architecture.blocks[0], 1)
        self.layer2 = _stage(widths[0], widths[1], architecture.blocks[1], 2)
        self.layer3 = _stage(widths[1], widths[2], architecture.blocks[2], 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised RGB [N, 3, H, W] to the stages' features [N, C, h, w] at 1/4, 1/8 and 1/16 of the size."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        first = self.layer1(x)
        second = self.layer2(first)
        return first, second, self.layer3(second)


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(channels, channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels_in, channels, stride), *rest)


def build_trunk(architecture: str, seed: int | None = None) -> ResNetTrunk:
    """A trunk with random weights; `seed` makes them repeatable without touching torch's global generator.

    Raises KeyError where `architecture` is not one of `ARCHITECTURES`.
    """
    if seed is None:
        return ResNetTrunk(ARCHITECTURES[architecture])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNetTrunk(ARCHITECTURES[architecture])
