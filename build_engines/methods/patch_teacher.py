"""Distillation of a trained trunk into a patch descriptor (Bergmann et al. 2020, section 3.1).

The descriptor must say what a patch looks like, of defects too, while only good images are at hand: half of what it
learns from has pasted defects.
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
from build_engines.networks.normalize import Images, Normalize
from build_engines.networks.patch_cnn import DESCRIPTOR, PatchNetwork
from build_engines.networks.seeding import seeded
from build_engines.precision import mixed_precision
from engines.files import replace_synced, write_atomic

_BATCH = 16
_CROP = 128
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 1e-5
_COMPACTNESS = 0.1
_SAVED_EVERY = 100
_SMALLEST = 1e-6
# Trunk's stages that see about as much of the image as a patch of that side.
_STAGES: dict[int, tuple[int, ...]] = {17: (0, 1), 33: (0, 1), 65: (1, 2)}


def distil(
    trunk: nn.Module,
    descriptor: PatchNetwork,
    pixels: Images,
    steps: int,
    folder: Path,
    seed: int,
    device: torch.device,
) -> None:
    """Train a descriptor in place, or take it from `folder` where an earlier call has trained it.

    Loss: mean over patches and channels of (D(t) - r)^2 with a linear decoder D (equation 1), and the mean of the
    squared off-diagonal correlations of the descriptors (equation 3). r are the trunk's features where the patch is,
    averaged over a neighbourhood and standardised. The paper shows each patch alone to the trunk, at a hundred times
    the cost a patch.

    Args:
        trunk: gives the stages' features of [N, 3, H, W].
        pixels: good training images, uint8 [N, H, W, 3].
        folder: of the run; holds the descriptor when done and a checkpoint until then.
    """
    name = f"descriptor{descriptor.receptive_field}"
    done, checkpoint = folder / f"{name}.safetensors", folder / f"{name}.ckpt"
    if not done.is_file():
        _train(trunk, descriptor, pixels, steps, checkpoint, seed, device)
        state = {name: value.cpu().contiguous() for name, value in descriptor.state_dict().items()}
        write_atomic(done, safetensors_bytes(state))
        checkpoint.unlink(missing_ok=True)
    descriptor.load_state_dict(load_file(done))


def _train(
    trunk: nn.Module,
    descriptor: PatchNetwork,
    pixels: Images,
    steps: int,
    checkpoint: Path,
    seed: int,
    device: torch.device,
) -> None:
    crops = _Crops(pixels, seed)
    normalize = Normalize().to(device)
    stages = _STAGES[descriptor.receptive_field]
    with torch.no_grad():
        first = _reference(trunk, stages, normalize(torch.from_numpy(crops.batch(0)).to(device)))
    mean, deviation = first.mean((0, 2, 3), keepdim=True), first.std((0, 2, 3), keepdim=True) + _SMALLEST
    with seeded(seed):
        decoder = nn.Conv2d(DESCRIPTOR, first.shape[1], 1).to(device)
    descriptor.to(device).requires_grad_(True).train()
    parameters = [*descriptor.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, steps)
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
            images = normalize(torch.from_numpy(crops.batch(step)).to(device))
            with torch.no_grad(), mixed_precision(device):
                reference = _reference(trunk, stages, images)
            with mixed_precision(device):
                found = descriptor(images)
            found = found.float()
            target = (functional.interpolate(reference, found.shape[2:], mode="bilinear") - mean) / deviation
            loss = functional.mse_loss(decoder(found), target) + _COMPACTNESS * _correlation(found)
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


def _reference(trunk: nn.Module, stages: tuple[int, ...], images: Tensor) -> Tensor:
    found = [features.float() for index, features in enumerate(trunk(images)) if index in stages]
    averaged = [functional.avg_pool2d(features, 3, 1, 1) for features in found]
    size = averaged[0].shape[2:]
    return torch.cat([functional.interpolate(features, size, mode="bilinear") for features in averaged], 1)


def _correlation(descriptors: Tensor) -> Tensor:
    flat = descriptors.transpose(0, 1).flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    unit = centred / (centred.square().sum(1, keepdim=True) + _SMALLEST**2).sqrt()
    correlation = unit @ unit.T
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / len(correlation)


class _Crops:
    """Random crops by step, so that an interrupted training goes on with those it would have seen."""

    def __init__(self, pixels: Images, seed: int) -> None:
        self._pixels, self._seed = pixels, seed

    def batch(self, step: int) -> NDArray[np.uint8]:
        """uint8 [N, h, w, 3]; every other one with a defect."""
        generator = np.random.default_rng([self._seed, step])
        crops = []
        for index, (one, other) in enumerate(generator.integers(len(self._pixels), size=(_BATCH, 2))):
            image = self._pixels[one]
            height, width = (min(_CROP, size) for size in image.shape[:2])
            top, left = (
                int(generator.integers(size - cut + 1))
                for size, cut in zip(image.shape[:2], (height, width), strict=True)
            )
            crop = image[top : top + height, left : left + width]
            if index % 2:
                crop = corrupt(crop, self._pixels[other][:height, :width], generator)
            crops.append(crop)
        return np.stack(crops)
