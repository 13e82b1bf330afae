"""The whole network of a bundle: camera pixels in, map, score and embedding out."""

from torch import Tensor, nn

from build_engines.methods.base import Method
from build_engines.networks.normalize import Normalize


class InspectionNetwork(nn.Module):
    """Normalisation and a method's inference in one graph."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.method = method

    def forward(self, pixels: Tensor, inside: bool = False) -> tuple[Tensor, ...]:
        """uint8 [N, H, W, 3] to anomaly maps [N, h, w], scores [N], embeddings [N, C], float32.

        With `inside`, targets and features follow.
        """
        return self.method(self.normalize(pixels), inside)
