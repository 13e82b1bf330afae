"""What the methods share: comparing two feature maps location by location, and maps made of several stages."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Keeps the square root's slope finite where a location has no activation at all.
_EPSILON = 1e-12
# Below it, two lengths are alike: a logarithm of nothing has no bound.
_SMALLEST_SQUARE = 1e-4


def unit_length(features: Tensor) -> Tensor:
    """[N, C, ...] with vectors of length one over channels."""
    features = float32(features)
    return features / (features.square().sum(1, keepdim=True) + _EPSILON).sqrt()


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Similarity over channels, [N, C, h, w] twice to [N, 1, h, w], without ever forming the normalised tensors."""
    first, second = float32(first), float32(second)
    lengths = (first.square().sum(1, keepdim=True) + _EPSILON) * (second.square().sum(1, keepdim=True) + _EPSILON)
    return (first * second).sum(1, keepdim=True) / lengths.sqrt()


def length_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared logarithm of the ratio of both sides' lengths over channels, a scalar.

    The methods' cosines leave the student's lengths free. Now and then a good image then drives it to a thousand times
    its usual strength, which harms nothing in floating point and leaves no integers for all other images.
    """
    lengths = [float32(side).square().sum(1) + _SMALLEST_SQUARE for side in (teacher, student)]
    return (0.5 * (lengths[0].log() - lengths[1].log())).square().mean()


def distance_maps(teacher: Iterable[Tensor], student: Iterable[Tensor]) -> list[Tensor]:
    """1 - cosine of each stage, [N, 1, h, w] in [0, 2], upsampled to the first stage's size."""
    return upsampled([(1.0 - cosine(t, s)).clamp(min=0.0) for t, s in zip(teacher, student, strict=True)])


def upsampled(maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps of the stages, [N, 1, h, w], each half the size of the one before, at the first one's size.

    A quarter of the image's size for the trunks here: upsampling the coarser stages to it instead of all three to the
    image keeps the detail there is, and costs a sixteenth.
    """
    return [maps[0], *(_upsample(coarse, 2**i) for i, coarse in enumerate(maps[1:], start=1))]


def embedding(stages: Sequence[Tensor]) -> Tensor:
    """Mean features of an image's stages, each of length one, [N, C]: what tells part classes apart."""
    return torch.cat([unit_length(features.mean((2, 3))) for features in stages], 1)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of [N, h, w], reflected at the borders; `sigma` > 0 is in locations.

    Two products with constant matrices, G M G^T: a convolution would stand among those that quantization takes for the
    network's.
    """
    rows, columns = (_gaussian_matrix(int(size), sigma).to(maps.device) for size in maps.shape[1:])
    return rows @ maps @ columns.T


def float32(features: Tensor) -> Tensor:
    """The same in float32; a conversion that changes nothing would stand in the exported graph as a Cast."""
    return features if features.dtype == torch.float32 else features.float()


def _upsample(maps: Tensor, factor: int) -> Tensor:
    return functional.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _gaussian_matrix(size: int, sigma: float) -> Tensor:
    places = np.arange(size, dtype=np.float64)
    reflected = (places, -1.0 - places, 2.0 * size - 1.0 - places)
    weights = sum(np.exp(-((places[:, None] - mirror) ** 2) / (2.0 * sigma**2)) for mirror in reflected)
    # From NumPy, so that the exporter takes it as a constant.
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))
