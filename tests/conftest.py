"""Real parts, a real run and real bundles, built once a session by the project itself, small enough for seconds."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from build_engines.commands.quantize import quantize_run
from build_engines.commands.train import train_run
from build_engines.data.synthetic import generate
from engines import signatures

IMAGE_SIZE = 128
EPOCHS = 20
SHARED = Path(os.environ.get("UNISPECT_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def console() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two part classes in MVTec AD layout: 30 good training images each, 6 good and 2 a defect to test."""
    folder = tmp_path_factory.mktemp("data") / "parts"
    generate(folder, classes=2, seed=3, train=30, test_good=6, test_per_defect=2)
    return folder


@pytest.fixture(scope="session")
def run_folder(parts_folder: Path, tmp_path_factory: pytest.TempPathFactory, console: Console) -> Path:
    """A finished STFPM run with the procedural teacher."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_small(parts_folder, folder, console)
    return folder


@pytest.fixture(scope="session")
def bundle_folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory, console: Console) -> Path:
    """An INT8 bundle of the run."""
    return quantize_small(run_folder, tmp_path_factory.mktemp("bundles") / "parts", "int8", console)


@pytest.fixture
def signing_key(tmp_path: Path) -> Path:
    """A private key that signs bundles; the public one is beside it, with `.pub` added."""
    path = tmp_path / "key"
    signatures.generate(path)
    return path


@pytest.fixture
def signed_bundle(bundle_folder: Path, tmp_path: Path, signing_key: Path) -> Path:
    """The INT8 bundle, copied and signed."""
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "signed"))
    signatures.sign(copy, signing_key)
    return copy


@pytest.fixture(scope="session")
def float_bundle_folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory, console: Console) -> Path:
    """A float32 bundle of the same run."""
    return quantize_small(run_folder, tmp_path_factory.mktemp("bundles") / "parts-fp32", "fp32", console)


@pytest.fixture(scope="session")
def tiled_run_folder(parts_folder: Path, tmp_path_factory: pytest.TempPathFactory, console: Console) -> Path:
    """A finished run on tiles of 64 pixels, nine an image."""
    folder = tmp_path_factory.mktemp("runs") / "tiled"
    train_small(parts_folder, folder, console, epochs=2, tile=64, overlap=16)
    return folder


@pytest.fixture(scope="session")
def tiled_bundle_folder(tiled_run_folder: Path, tmp_path_factory: pytest.TempPathFactory, console: Console) -> Path:
    """An INT8 bundle of the run on tiles."""
    return quantize_small(tiled_run_folder, tmp_path_factory.mktemp("bundles") / "tiled", "int8", console)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data in {SHARED}; set UNISPECT_SHARED")
    return SHARED


def train_small(data: Path, out: Path, console: Console, *, resume: bool = False, **asked: Any) -> None:
    """Train on synthetic parts in a few seconds, with other keys of a recipe where they are `asked`."""
    small = {
        "teacher_weights": "procedural",
        "epochs": EPOCHS,
        "batch_size": 8,
        "learning_rate": 0.2,
        "image_size": IMAGE_SIZE,
        "device": "cpu",
    }
    train_run(data=data, out=out, console=console, resume=resume, **{**small, **asked})


def quantize_small(run: Path, out: Path, precision: str, console: Console) -> Path:
    """Write a bundle of a small run."""
    quantize_run(run, out, precision=precision, console=console)
    return out
