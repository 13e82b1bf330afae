"""An anomaly map of two measures: the papers' cosine distance, and the energy that the student misses.

1 - cosine weighs every location alike, so that the noise of a plain surface counts as much as a missing edge: defects
of fine structure are found, those of even texture drown. The energy |t|^2 (1 - cosine) of features averaged over a
neighbourhood is deaf to both noise and emptiness. What each measure gives good parts differs by orders of magnitude,
so both are taken relative to held-out good images.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from build_engines.methods.base import Pair
from build_engines.methods.features import cosine, float32, upsampled

_NEIGHBOURHOOD = 3
_EPSILON = 1e-12


class FusedMap(nn.Module):
    """Both measures, and the constants that make them comparable.

    Attributes:
        energies: mean squared length of the teacher's averaged features of each stage, [stages].
        scales: mean over held-out good images of the maximum of each measure's map, [2].
    """

    def __init__(self, stages: int = 3) -> None:
        super().__init__()
        self.register_buffer("energies", torch.ones(stages))
        self.register_buffer("scales", torch.ones(2))

    def forward(self, targets: Iterable[Tensor], features: Iterable[Tensor]) -> Tensor:
        """Stage features [N, C, h, w] of teacher and student to maps [N, h, w] of the first stage's size."""
        distance, energy = self._measures(tuple(targets), tuple(features))
        return distance / self.scales[0] + energy / self.scales[1]

    def fit(self, batches: Callable[[], Iterable[Pair]]) -> None:
        """Set the constants from held-out good images.

        Args:
            batches: gives their targets and features, batch by batch; called twice, as the images may be many.
        """
        energies = [
            torch.stack([_squared(_averaged(stage)).mean((1, 2, 3)) for stage in targets], 1)
            for targets, _ in batches()
        ]
        self.energies.copy_(torch.cat(energies).mean(0).clamp(min=_EPSILON))
        largest = [
            torch.stack([maps.amax((1, 2)) for maps in self._measures(targets, features)], 1)
            for targets, features in batches()
        ]
        self.scales.copy_(torch.cat(largest).mean(0).clamp(min=_EPSILON))

    def _measures(self, targets: tuple[Tensor, ...], features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        distances, energies = [], []
        for index, (target, found) in enumerate(zip(targets, features, strict=True)):
            target, found = float32(target), float32(found)
            distances.append((1.0 - cosine(target, found)).clamp(min=0.0))
            # The losses leave a student's lengths free; its teacher's are what it would have had.
            lengths = (_squared(target) / (_squared(found) + _EPSILON)).sqrt()
            teacher, student = _averaged(target), _averaged(found * lengths)
            missed = _squared(teacher) * (1.0 - cosine(teacher, student)).clamp(min=0.0)
            energies.append(missed / self.energies[index])
        distance, energy = (torch.stack(upsampled(maps)).sum(0).squeeze(1) for maps in (distances, energies))
        return distance, energy


def _averaged(features: Tensor) -> Tensor:
    return functional.avg_pool2d(float32(features), _NEIGHBOURHOOD, 1, _NEIGHBOURHOOD // 2)


def _squared(features: Tensor) -> Tensor:
    return features.square().sum(1, keepdim=True)
