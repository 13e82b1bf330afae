"""`build-engines compile`, and measuring on a GPU: without one in one sentence, with one after compiling."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from build_engines.benchmark import BATCHES, benchmark
from build_engines.commands import compile as command
from engines import bundle as bundles
from engines.backends.tensorrt import TensorRtBackend
from engines.detector import Detector
from engines.errors import NoPlan
from tests.engines.host_gpu import HostDevice, HostLibrary

without_tensorrt = pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    process = [sys.executable, "-m", "build_engines.cli", *map(str, arguments)]
    return subprocess.run(process, capture_output=True, text=True, check=False)


@without_tensorrt
def test_compiling_without_tensorrt_is_one_sentence(bundle_folder: Path) -> None:
    done = run("compile", bundle_folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "TensorRT is not installed here; choose the backend openvino or auto.\n"
    assert not (bundle_folder / "plans").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "openvino"], "argument --backend: invalid choice: 'openvino'"),
        (["--precision", "bf16"], "argument --precision: invalid choice: 'bf16'"),
        (["--max-batch", "4", "--preferred-batch", "8"], "preferred batch 8 is above the largest, 4"),
        (["--workspace", "none"], "--workspace"),
    ],
)
def test_wrong_options_are_one_sentence(bundle_folder: Path, options: list[str], message: str) -> None:
    done = run("compile", bundle_folder, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@without_tensorrt
@pytest.mark.parametrize("arguments", [["evaluate", "--data", "."], ["benchmark"]])
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_measuring_without_a_gpu_is_one_sentence(bundle_folder: Path, arguments: list[str], backend: str) -> None:
    done = run(arguments[0], bundle_folder, *arguments[1:], "--backend", backend)
    assert done.returncode == 2
    assert "TensorRT cannot run" in done.stderr
    assert "pycuda not installed" in done.stderr or "no GPU here" in done.stderr


def test_a_bundle_without_a_plan_is_compiled_before_it_is_measured(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan appears when compiling is asked for, and only then the bundle opens."""
    asked: list[list[str]] = []

    def opened(bundle: bundles.Bundle, backend: str, threads: int) -> Detector:
        if not asked:
            raise NoPlan("There is no plan.")
        return Detector(bundle, on_host(bundle))

    monkeypatch.setattr(command.Detector, "open", opened)
    monkeypatch.setattr(command, "compile_bundle", lambda folder, arguments, console: asked.append(arguments))
    detector = command.open_detector(bundle_folder, "tensorrt_rtx", 0, Console(quiet=True))
    assert asked == [["--backend", "tensorrt_rtx"]]
    assert detector.check_golden() > 0


def test_a_benchmark_tells_what_the_gpu_itself_took(bundle_folder: Path) -> None:
    bundle = bundles.load(bundle_folder)
    figures = benchmark(Detector(bundle, on_host(bundle)), bundle.golden_path.read_bytes(), 10)
    for count in BATCHES:
        alone, whole = (figures.stages[f"{what}, batch {count}"] for what in ("GPU alone", "engine"))
        assert 0 < alone.median < 3 * whole.median
    assert figures.device_memory_bytes is not None
    assert figures.device_memory_bytes > 0
    on_cpu = benchmark(Detector.open(bundle, "openvino"), bundle.golden_path.read_bytes(), 10)
    assert on_cpu.device_memory_bytes is None
    assert not any(name.startswith("GPU") for name in on_cpu.stages)


def test_plans_in_a_bundles_folder_go_with_the_bundle(bundle_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    (folder / "plans").mkdir()
    (folder / "plans" / "a.plan").write_bytes(b"plan")
    assert bundles.load(folder).manifest == bundles.load(bundle_folder).manifest


def on_host(bundle: bundles.Bundle) -> TensorRtBackend:
    return TensorRtBackend(bundle.network, HostLibrary(), HostDevice(), bundle.network.path.read_bytes(), 8)
