"""The whole way on real industrial images: what the issue promised, measured through the engines. Some 12 minutes."""

from pathlib import Path

import pytest
from rich.console import Console

from build_engines.commands.quantize import quantize_run
from build_engines.commands.train import train_run
from build_engines.evaluation import evaluate
from engines import bundle as bundles
from engines.detector import Detector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unified run over the four real part classes, with the method's own settings."""
    folder = tmp_path_factory.mktemp("real") / "run"
    train_run(
        data=shared / "data" / "parts5",
        out=folder,
        teacher_weights=str(shared / "weights" / "resnet18_imagenet_layer123.pth"),
        console=Console(),
    )
    return folder


def measure(run: Path, out: Path, precision: str, data: Path) -> dict[str, float | None]:
    quantize_run(run, out, precision=precision, console=Console())
    return evaluate(Detector.open(bundles.load(out)), data).mean()


def test_unified_engine_on_real_parts_in_float_and_int8(shared: Path, run_folder: Path, tmp_path: Path) -> None:
    data = shared / "data" / "parts5"
    floating = measure(run_folder, tmp_path / "fp32", "fp32", data)
    quantized = measure(run_folder, tmp_path / "int8", "int8", data)
    assert floating["image_auroc"] >= 0.76
    assert abs(quantized["image_auroc"] - floating["image_auroc"]) <= 0.005
    assert min(floating["recognition"], quantized["recognition"]) >= 0.99
