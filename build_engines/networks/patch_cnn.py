"""A small CNN that describes a square patch, and the same network run densely over an image.

Bergmann et al. 2020 (Uninformed Students, arXiv 1911.02357, section 3.1) describe patches of 17, 33 and 65 pixels. The
layers here are narrower than theirs, so that four networks cost no more than four times STFPM's two.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

DESCRIPTOR = 128


@dataclass(frozen=True)
class Layer:
    """A convolution without padding and its ReLU; `pooled` puts a maximum over 2 x 2 behind them."""

    kernel: int
    channels: int
    pooled: bool = False


# By receptive field. Each ends in one location, and every pooling takes an even number; a 1 x 1 convolution to the
# descriptor follows.
LAYERS: dict[int, tuple[Layer, ...]] = {
    17: (Layer(4, 48, pooled=True), Layer(4, 96), Layer(4, 128)),
    33: (Layer(6, 32, pooled=True), Layer(5, 64, pooled=True), Layer(2, 128), Layer(4, 128)),
    65: (Layer(6, 32, pooled=True), Layer(5, 64, pooled=True), Layer(4, 96, pooled=True), Layer(5, 128)),
}


class PatchNetwork(nn.Module):
    """Descriptors of patches.

    Args:
        receptive_field: side of the patch in pixels, one of `LAYERS`.
        dense_stride: pixels between the patches that `forward` describes, 1, 2 or 4.
    """

    def __init__(self, receptive_field: int, dense_stride: int) -> None:
        super().__init__()
        self.receptive_field, self.dense_stride = receptive_field, dense_stride
        self.layers = LAYERS[receptive_field]
        channels = [3, *(layer.channels for layer in self.layers)]
        self.convs, self.poolings = nn.ModuleList(), nn.ModuleList()
        stride, dilation = dense_stride, 1
        for index, layer in enumerate(self.layers):
            # What the poolings have not taken of the stride is left to the last convolution.
            step = stride if index == len(self.layers) - 1 else 1
            conv = nn.Conv2d(channels[index], layer.channels, layer.kernel, step, dilation=dilation)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            self.convs.append(conv)
            if not layer.pooled:
                self.poolings.append(nn.Identity())
            elif stride > 1:
                self.poolings.append(nn.MaxPool2d(2))
                stride //= 2
            else:
                self.poolings.append(_LargestOfFour(dilation))
                dilation *= 2
        self.describe = nn.Conv2d(channels[-1], DESCRIPTOR, 1)

    def patches(self, patches: Tensor) -> Tensor:
        """[N, 3, p, p] of the receptive field's side to descriptors [N, 128]."""
        x = patches
        for conv, layer in zip(self.convs, self.layers, strict=True):
            x = functional.relu(functional.conv2d(x, conv.weight, conv.bias))
            if layer.pooled:
                x = functional.max_pool2d(x, 2)
        return self.describe(x).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] to descriptors [N, 128, H / s, W / s] of the patches around every s-th pixel.

        The image is surrounded by zeros. The first poolings keep their stride of 2 until the dense stride s is
        reached; each one after it moves by one location instead, and all that follows is dilated by another factor of
        2. So the patches' own numbers come out, and neighbouring patches share their work (methods.md; Bailer et al.
        2018, arXiv 1805.03096, does the same by rearranging).
        """
        before = (self.receptive_field - self.dense_stride) // 2
        after = self.receptive_field - self.dense_stride - before
        x = functional.pad(images, (before, after, before, after))
        for conv, pooling in zip(self.convs, self.poolings, strict=True):
            x = pooling(functional.relu(conv(x)))
        return self.describe(x)


class _LargestOfFour(nn.Module):
    """Maximum over 2 x 2 locations `distance` apart, at every location."""

    def __init__(self, distance: int) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, x: Tensor) -> Tensor:
        distance = self.distance
        if distance == 1:
            return functional.max_pool2d(x, 2, 1)
        # TensorRT 8.5 has no dilated pooling.
        x = torch.maximum(x[:, :, :-distance], x[:, :, distance:])
        return torch.maximum(x[:, :, :, :-distance], x[:, :, :, distance:])
