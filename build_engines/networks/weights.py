"""Teacher weights: torchvision's official file, a local file, or the project's own procedural teacher.

No file is ever unpickled beyond tensors: `.pth` is read with weights_only=True, `.safetensors` holds nothing else.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from build_engines.errors import WeightsError
from build_engines.networks.download import fetch
from build_engines.networks.resnet import ResNetTrunk, build_trunk
from engines.bundle import Teacher
from engines.files import sha256_of

PROCEDURAL = "procedural"
PROCEDURAL_ARCHITECTURE = "resnet18_half"
PROCEDURAL_FILE = Path(__file__).with_name("procedural_teacher.safetensors")


@dataclass(frozen=True)
class OfficialFile:
    """A file of torchvision's, of the first weights it had (V1); its name ends in the first digits of its SHA-256."""

    url: str
    sha256_prefix: str


OFFICIAL = {
    name: OfficialFile(f"https://download.pytorch.org/models/{name}-{digest}.pth", digest)
    for name, digest in {
        "resnet18": "f37072fd",
        "resnet34": "b627a593",
        "resnet50": "0676ba61",
        "wide_resnet50_2": "95faca4d",
    }.items()
}


def load_teacher(architecture: str, weights: str | None) -> tuple[ResNetTrunk, Teacher]:
    """A trunk with trained weights, and the record of where they came from.

    Args:
        architecture: one of `ARCHITECTURES`.
        weights: None for torchvision's official file, `procedural`, or the path of a .pth or .safetensors file with
            torchvision's names; keys of layer4 and fc are passed over.

    Raises:
        WeightsError: no such file, not weights, or of another architecture (the first missing names are listed).
    """
    if weights == PROCEDURAL and architecture != PROCEDURAL_ARCHITECTURE:
        raise WeightsError(
            f"The procedural teacher is a {PROCEDURAL_ARCHITECTURE}, not a {architecture}; "
            f"say --teacher {PROCEDURAL_ARCHITECTURE} or give other weights."
        )
    path = _find(architecture, weights)
    trunk = build_trunk(architecture)
    _load_into(trunk, _read(path), path, architecture)
    label = {None: "torchvision", PROCEDURAL: PROCEDURAL}.get(weights, path.name)
    return trunk, Teacher(architecture=architecture, weights=label, sha256=sha256_of(path))


def _find(architecture: str, weights: str | None) -> Path:
    if weights == PROCEDURAL:
        return PROCEDURAL_FILE
    if weights is None:
        official = OFFICIAL.get(architecture)
        if official is None:
            raise WeightsError(
                f"torchvision has no weights for {architecture}; give --teacher-weights procedural or a file."
            )
        return fetch(official.url, official.sha256_prefix)
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(
            f"There is no teacher weights file {path}; give a .pth or .safetensors file, or 'procedural'."
        )
    return path


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise WeightsError(
            f"{path} does not hold weights only ({type(error).__name__}); give a torchvision state dict."
        ) from error
    except (
        Exception
    ) as error:  # weights_only's refusal is an UnpicklingError, from the module that is never to be used.
        raise WeightsError(
            f"{path} holds more than weights and is not loaded; give a torchvision state dict."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not a state dict of tensors; give a torchvision state dict.")
    return state


def _load_into(trunk: ResNetTrunk, state: dict[str, Tensor], path: Path, architecture: str) -> None:
    expected = trunk.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in state and name not in counters]
    if missing:
        raise WeightsError(f"{path} is no {architecture}: it lacks {', '.join(missing[:3])} ({len(missing)} in all).")
    other = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if other:
        raise WeightsError(
            f"{path} is no {architecture}: {other[0]} has shape {tuple(state[other[0]].shape)} "
            f"and should have {tuple(expected[other[0]].shape)} ({len(other)} differ)."
        )
    trunk.load_state_dict({name: state.get(name, value).to(value.dtype) for name, value in expected.items()})
