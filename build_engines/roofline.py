"""A roofline estimate (Williams et al. 2009, doi:10.1145/1498765.1498785) of how long a device takes for an image.

Each kernel takes as long as its operations at a share of the device's peak, or as its bytes at the device's bandwidth,
whichever is longer, and a launch. An estimate, and no measurement: see docs/jetson.md for what it leaves out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from build_engines.roofline_graph import Arithmetic, Kernel

SHARES = (0.25, 0.45)


@dataclass(frozen=True)
class Device:
    """What a device can do at the most.

    Attributes:
        peaks: operations a second of matrix products, by what they multiply; fp32 holds for all else too.
        bandwidth: of memory, bytes a second.
        launch: seconds that a kernel takes beyond its work: an assumption.
    """

    name: str
    peaks: Mapping[Arithmetic, float]
    bandwidth: float
    launch: float


# 384 Volta cores and 48 tensor cores at 1.109 GHz, LPDDR4x; the 15 W mode's memory clock.
XAVIER_NX = Device(
    name="Jetson Xavier NX",
    peaks={"int8": 13.6e12, "fp16": 6.8e12, "fp32": 0.85e12},
    bandwidth=51.2e9,
    launch=5e-6,
)


@dataclass(frozen=True)
class Cost:
    """Of an image, all kernels together.

    Attributes:
        operations: multiply-accumulates times 2, and what else is computed.
        bytes: read and written.
        kernels: launched for a batch.
        milliseconds: at each of the shares asked for, launches included.
        launches: milliseconds of them that are launches.
    """

    operations: float
    bytes: float
    kernels: int
    milliseconds: tuple[float, ...]
    launches: float


def cost(
    kernels: Sequence[Kernel], shares: Sequence[float] = SHARES, images: int = 1, device: Device = XAVIER_NX
) -> Cost:
    """What kernels cost on a device.

    Args:
        kernels: of one batch.
        shares: of the peak that matrix products and all else reach, in (0, 1].
        images: in the batch.
    """
    launches = device.launch * len(kernels)
    seconds = [sum(seconds_of(kernel, share, device) for kernel in kernels) + launches for share in shares]
    return Cost(
        operations=sum(kernel.operations for kernel in kernels) / images,
        bytes=sum(kernel.bytes for kernel in kernels) / images,
        kernels=len(kernels),
        milliseconds=tuple(taken * 1e3 / images for taken in seconds),
        launches=launches * 1e3 / images,
    )


def seconds_of(kernel: Kernel, share: float, device: Device = XAVIER_NX) -> float:
    """What a kernel takes without its launch."""
    return max(kernel.operations / (share * device.peaks[kernel.arithmetic]), kernel.bytes / device.bandwidth)


def is_memory_bound(kernel: Kernel, share: float, device: Device = XAVIER_NX) -> bool:
    """Whether its bytes take longer than its operations."""
    return seconds_of(kernel, share, device) > kernel.operations / (share * device.peaks[kernel.arithmetic])


def parts_of(kernels: Sequence[Kernel]) -> dict[str, list[Kernel]]:
    """Kernels by the part of the network that they belong to, in the order of their first."""
    parts: defaultdict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        parts[kernel.part].append(kernel)
    return dict(parts)
