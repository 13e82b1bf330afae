"""From camera pixels to what networks trained on ImageNet take."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_BATCH = 8


class Images(Protocol):
    """Images uint8 [N, H, W, 3]: an array, or what is indexed as one along N."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> NDArray[np.uint8]: ...


class Normalize(nn.Module):
    """uint8 [N, H, W, 3] RGB to float [N, 3, H, W] with ImageNet's mean and standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255.0, persistent=False)
        self.register_buffer("gain", 1.0 / (torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255.0), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.float().permute(0, 3, 1, 2) - self.offset) * self.gain


def normalised_batches(pixels: Images, device: torch.device) -> Iterator[Tensor]:
    """uint8 [N, H, W, 3] as the network sees it, a batch at a time."""
    normalize = Normalize().to(device)
    for start in range(0, len(pixels), _BATCH):
        yield normalize(torch.from_numpy(pixels[start : start + _BATCH]).to(device))
