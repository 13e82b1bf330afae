"""The trained half of Reverse Distillation (Deng & Li 2022, arXiv 2201.10703): bottleneck and decoder.

The decoder sees the image only through the bottleneck's embedding, which has no room for what good parts never show.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from build_engines.networks.resnet import Architecture, BasicBlock, initialize

# Blocks of layer4 in every architecture here are two or three; the embedding needs no third.
_EMBEDDING_BLOCKS = 2


class ReverseStudent(nn.Module):
    """The encoder's three stages to their reconstruction, through one small embedding."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.bottleneck = OneClassBottleneck(architecture)
        self.decoder = Decoder(architecture)
        initialize(self)

    def forward(self, stages: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Features of layer1 to layer3 [N, C, h, w] to features of the same shapes."""
        return self.decoder(self.bottleneck(stages))


class OneClassBottleneck(nn.Module):
    """Multi-scale feature fusion and one-class embedding (section 3.3, figure 4)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        first, second, third, _ = architecture.channels
        self.fuse1 = nn.Sequential(*_halve(first, second), *_halve(second, third))
        self.fuse2 = nn.Sequential(*_halve(second, third))
        self.mix = nn.Sequential(
            nn.Conv2d(3 * third, third, 1, bias=False), nn.BatchNorm2d(third), nn.ReLU(inplace=True)
        )
        self.embed = architecture.stage(third, 4, _EMBEDDING_BLOCKS, 2)

    def forward(self, stages: tuple[Tensor, ...]) -> Tensor:
        """Features at 1/4, 1/8 and 1/16 of the image's size to an embedding at 1/32, with layer4's channels."""
        first, second, third = stages
        return self.embed(self.mix(torch.cat([self.fuse1(first), self.fuse2(second), third], 1)))


class Decoder(nn.Module):
    """The encoder's mirror image: transposed convolutions where it has strides."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layer3 = _up_stage(architecture, 3)
        self.layer2 = _up_stage(architecture, 2)
        self.layer1 = _up_stage(architecture, 1)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding to features of layer1 to layer3, finest first."""
        third = self.layer3(embedding)
        second = self.layer2(third)
        return self.layer1(second), second, third


class UpConv(nn.Module):
    """A transposed convolution of 2 x 2 and stride 2 with batch normalisation.

    Each input location makes four outputs of its own, so that the same numbers come from a 1 x 1 convolution with
    four times the channels, laid out in space: in this form, which inference has, every engine computes it in INT8,
    with one weight scale an output channel and corner, where TensorRT 8.5 has one a tensor for ConvTranspose.
    """

    def __init__(self, channels_in: int, channels: int, activate: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels_in, channels, 2, 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, h, w] to [N, C, 2 h, 2 w]."""
        if self.training:
            y = self.bn(self.conv(x))
            return functional.relu(y) if self.activate else y
        gain = self.bn.weight / (self.bn.running_var + self.bn.eps).sqrt()
        channels_in, channels = self.conv.in_channels, self.conv.out_channels
        weight = (
            (self.conv.weight * gain.view(1, -1, 1, 1)).permute(1, 2, 3, 0).reshape(4 * channels, channels_in, 1, 1)
        )
        # Written so that the exporter computes it once; a repeat would stay in the graph.
        bias = torch.stack([self.bn.bias - self.bn.running_mean * gain] * 4, 1).reshape(4 * channels)
        y = functional.conv2d(x, weight, bias)
        return functional.pixel_shuffle(functional.relu(y) if self.activate else y, 2)


class UpBasicBlock(nn.Module):
    """`BasicBlock` with its stride turned round."""

    def __init__(self, channels_in: int, width: int, channels: int) -> None:
        super().__init__()
        self.up1 = UpConv(channels_in, width, activate=True)
        self.conv2 = nn.Conv2d(width, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.upsample = UpConv(channels_in, channels, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn2(self.conv2(self.up1(x))) + self.upsample(x))


class UpBottleneck(nn.Module):
    """`Bottleneck` with its stride turned round."""

    def __init__(self, channels_in: int, width: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.up2 = UpConv(width, width, activate=True)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.upsample = UpConv(channels_in, channels, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up2(functional.relu(self.bn1(self.conv1(x))))
        return functional.relu(self.bn3(self.conv3(y)) + self.upsample(x))


def _halve(channels_in: int, channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


def _up_stage(architecture: Architecture, stage: int) -> nn.Sequential:
    channels_in, channels, width = (
        architecture.channels[stage],
        architecture.channels[stage - 1],
        architecture.widths[stage - 1],
    )
    up = UpBasicBlock if architecture.block is BasicBlock else UpBottleneck
    rest = [architecture.block(channels, width, 1, channels) for _ in range(architecture.blocks[stage - 1] - 1)]
    return nn.Sequential(up(channels_in, width, channels), *rest)
