"""A bundle's network in PyTorch on the same device: FP32 eager, and FP16 through torch.compile."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from build_engines.benchmark import untrained_network
from build_engines.networks.inspection import InspectionNetwork
from engines.backends.base import DeviceFigures
from engines.bundle import Bundle

KINDS = ("PyTorch FP32 eager", "torch.compile FP16")


class TorchNetwork:
    """Takes and gives what a backend does; on a GPU pixels go through pinned memory.

    Args:
        kind: one of `KINDS`. FP16 leaves to FP32 what the network itself computes in it, and is compiled with CUDA
            graphs (`reduce-overhead`).
    """

    def __init__(self, bundle: Bundle, kind: str, device: torch.device) -> None:
        network = untrained_network(bundle)
        half = kind == KINDS[1]
        module = (_Half(network) if half else network).to(device)
        self._network = torch.compile(module, mode="reduce-overhead", dynamic=False) if half else module
        self._device = device
        self._pinned: dict[int, Tensor] = {}

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
        """Maps, scores and embeddings of uint8 [N, H, W, 3]."""
        return tuple(result.cpu().numpy() for result in self._network(self._uploaded(images)))

    @torch.inference_mode()
    def on_device(self, images: NDArray[np.uint8]) -> DeviceFigures | None:
        """What the GPU takes to compute, between CUDA events, without copies; None on a CPU."""
        if self._device.type == "cpu":
            return None
        pixels = self._uploaded(images)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self._network(pixels)
        end.record()
        end.synchronize()
        return DeviceFigures(float(begin.elapsed_time(end)), torch.cuda.memory_reserved())

    def _uploaded(self, images: NDArray[np.uint8]) -> Tensor:
        if self._device.type == "cpu":
            return torch.from_numpy(images)
        if len(images) not in self._pinned:
            self._pinned[len(images)] = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True)
        pinned = self._pinned[len(images)]
        pinned.copy_(torch.from_numpy(images))
        return pinned.to(self._device, non_blocking=True)


class _Half(nn.Module):
    def __init__(self, network: InspectionNetwork) -> None:
        super().__init__()
        self.normalize = network.normalize
        self.method = network.method.half()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        # Weights are halves already; autocast takes the activations there that a method has brought to float32.
        with torch.autocast(pixels.device.type, torch.float16):
            results: tuple[Tensor, ...] = self.method(self.normalize(pixels).half())
        return results
