"""Distillation of a trained trunk into a patch descriptor (Bergmann et al. 2020, section 3.1).

The descriptor must say what a patch looks like, of defects too, while only good images are at hand: half of the
patches come from images with pasted defects.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn
from torch.nn import functional

from build_engines.data.corruption import corrupt
from build_engines.networks.normalize import Normalize
from build_engines.networks.patch_cnn import DESCRIPTOR, PatchNetwork
from build_engines.precision import mixed_precision
from engines.files import replace_synced, write_atomic

_BATCH = 64
_PATCHES_AN_IMAGE = 8
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 1e-5
_COMPACTNESS = 1.0
_SAVED_EVERY = 250


def distil(
    trunk: nn.Module,
    descriptor: PatchNetwork,
    pixels: NDArray[np.uint8],
    steps: int,
    folder: Path,
    seed: int,
    device: torch.device,
) -> None:
    """Train a descriptor in place, or take it from `folder` where an earlier call has trained it.

    Loss: mean over patches of ||D(t) - r||^2, where r is the trunk's layer3 feature of the patch, pooled, and D a
    linear decoder (equation 1), and the mean of the squared off-diagonal correlations of the descriptors (equation 3).

    Args:
        trunk: gives the stages' features of [N, 3, p, p].
        pixels: good training images, uint8 [N, H, W, 3].
        folder: of the run; holds the descriptor when done and a checkpoint until then.
    """
    name = f"descriptor{descriptor.receptive_field}"
    done, checkpoint = folder / f"{name}.safetensors", folder / f"{name}.ckpt"
    if not done.is_file():
        _train(trunk, descriptor, pixels, steps, checkpoint, seed, device)
        write_atomic(done, safetensors_bytes({key: value.cpu() for key, value in descriptor.state_dict().items()}))
        checkpoint.unlink(missing_ok=True)
    descriptor.load_state_dict(load_file(done))


def _train(
    trunk: nn.Module,
    descriptor: PatchNetwork,
    pixels: NDArray[np.uint8],
    steps: int,
    checkpoint: Path,
    seed: int,
    device: torch.device,
) -> None:
    patches = _Patches(pixels, descriptor.receptive_field, seed)
    normalize = Normalize().to(device)
    width = _pooled(trunk, normalize(torch.from_numpy(patches.batch(0)[:1]).to(device))).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = nn.Linear(DESCRIPTOR, width).to(device)
    descriptor.to(device).requires_grad_(True).train()
    parameters = [*descriptor.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    parts = {"descriptor": descriptor, "decoder": decoder, "optimizer": optimizer, "schedule": schedule}
    step = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, device, weights_only=True)
        step = state.pop("step")
        for key, part in parts.items():
            part.load_state_dict(state[key])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(f"Descriptor of {descriptor.receptive_field} px", total=steps, completed=step)
        while step < steps:
            images = normalize(torch.from_numpy(patches.batch(step)).to(device))
            with torch.no_grad(), mixed_precision(device):
                target = _pooled(trunk, images)
            with mixed_precision(device):
                found = descriptor.patches(images)
            found = found.float()
            loss = (decoder(found) - target).square().sum(1).mean() + _COMPACTNESS * _correlation(found)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            progress.update(task, advance=1)
            if step % _SAVED_EVERY == 0:
                scratch = checkpoint.with_suffix(".tmp")
                torch.save({"step": step, **{key: part.state_dict() for key, part in parts.items()}}, scratch)
                replace_synced(scratch, checkpoint)
    descriptor.requires_grad_(False).eval()


def _pooled(trunk: nn.Module, patches: Tensor) -> Tensor:
    features = trunk(patches)[-1].float().mean((2, 3))
    return functional.layer_norm(features, features.shape[1:])


def _correlation(descriptors: Tensor) -> Tensor:
    centred = descriptors - descriptors.mean(0)
    unit = centred / (centred.square().sum(0, keepdim=True) + 1e-12).sqrt()
    correlation = unit.T @ unit
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / len(correlation)


class _Patches:
    """Random patches by step, so that an interrupted training goes on with those it would have seen."""

    def __init__(self, pixels: NDArray[np.uint8], side: int, seed: int) -> None:
        self._pixels, self._side, self._seed = pixels, side, seed

    def batch(self, step: int) -> NDArray[np.uint8]:
        """uint8 [N, p, p, 3]."""
        generator = np.random.default_rng([self._seed, step])
        chosen = generator.integers(len(self._pixels), size=(_BATCH // _PATCHES_AN_IMAGE, 2))
        patches = []
        for index, (one, other) in enumerate(chosen):
            image = self._pixels[one]
            if index % 2:
                image = corrupt(image, self._pixels[other], generator)
            height, width = image.shape[:2]
            for _ in range(_PATCHES_AN_IMAGE):
                top, left = (int(generator.integers(size - self._side + 1)) for size in (height, width))
                patches.append(image[top : top + self._side, left : left + self._side])
        return np.stack(patches)
