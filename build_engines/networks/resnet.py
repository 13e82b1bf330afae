"""ResNet trunks up to layer3 (He et al. 2016, arXiv 1512.03385), with torchvision's weight names."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from build_engines.networks.seeding import seeded


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., figure 5 left)."""

    expansion: ClassVar[int] = 1

    def __init__(self, channels_in: int, width: int, stride: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (figure 5 right); the 3x3 one has the stride, as in torchvision."""

    expansion: ClassVar[int] = 4

    def __init__(self, channels_in: int, width: int, stride: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(channels_in: int, channels: int, stride: int) -> nn.Module | None:
    """Projection of a block's input to its output's shape; None where they have the same."""
    if stride == 1 and channels_in == channels:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


@dataclass(frozen=True)
class Architecture:
    """A ResNet by its numbers.

    Attributes:
        blocks: of layer1, layer2, layer3.
        stem: channels after conv1.
        block: kind of the residual blocks.
        width: of the 3x3 convolutions, relative to the stage's (2 for the wide ResNet, arXiv 1605.07146).
    """

    blocks: tuple[int, int, int]
    stem: int = 64
    block: type[BasicBlock] | type[Bottleneck] = BasicBlock
    width: int = 1

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Of the 3x3 convolutions of layer1 to layer4."""
        first = self.stem * self.width
        return first, 2 * first, 4 * first, 8 * first

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Of the features of layer1 to layer4."""
        first = self.stem * self.block.expansion
        return first, 2 * first, 4 * first, 8 * first

    def stage(self, channels_in: int, stage: int, blocks: int, stride: int) -> nn.Sequential:
        """Residual blocks of layer `stage` (1 to 4), the first with the stride."""
        width, channels = self.widths[stage - 1], self.channels[stage - 1]
        first = self.block(channels_in, width, stride, channels)
        return nn.Sequential(first, *(self.block(channels, width, 1, channels) for _ in range(blocks - 1)))


ARCHITECTURES = {
    "resnet18": Architecture((2, 2, 2)),
    "resnet34": Architecture((3, 4, 6)),
    "resnet50": Architecture((3, 4, 6), block=Bottleneck),
    "wide_resnet50_2": Architecture((3, 4, 6), block=Bottleneck, width=2),
    # Half the width: the project's own teacher, small enough to be shipped.
    "resnet18_half": Architecture((2, 2, 2), stem=32),
}


class ResNetTrunk(nn.Module):
    """conv1 to layer3; layer4 and fc are not needed by distillation."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stem, blocks, channels = architecture.stem, architecture.blocks, architecture.channels
        self.channels = channels[:3]
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = architecture.stage(stem, 1, blocks[0], 1)
        self.layer2 = architecture.stage(channels[0], 2, blocks[1], 2)
        self.layer3 = architecture.stage(channels[1], 3, blocks[2], 2)
        initialize(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised RGB [N, 3, H, W] to the stages' features [N, C, h, w] at 1/4, 1/8 and 1/16 of the size."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        first = self.layer1(x)
        second = self.layer2(first)
        return first, second, self.layer3(second)


def initialize(network: nn.Module) -> None:
    """Random convolution weights as torchvision's ResNets begin with (He et al. 2015, arXiv 1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build_trunk(architecture: str, seed: int | None = None) -> ResNetTrunk:
    """A trunk with random weights; `seed` makes them repeatable without touching torch's global generator.

    Raises KeyError where `architecture` is not one of `ARCHITECTURES`.
    """
    if seed is None:
        return ResNetTrunk(ARCHITECTURES[architecture])
    with seeded(seed):
        return ResNetTrunk(ARCHITECTURES[architecture])
