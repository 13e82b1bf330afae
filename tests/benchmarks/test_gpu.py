"""benchmarks/gpu.py on this machine: what it says without a GPU, and its measuring on the CPU's backends."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines import bundle as bundles
from engines.backends import Backend, RawResult, open_backend

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FEW = ("--runs", 30, "--repeats", 2, "--calls", 2)


Benchmark = Callable[..., int]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Benchmark]:
    """The command's main function; what it compiles with torch runs eagerly here, for compiling takes a minute."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu import main

    with torch.compiler.set_stance("force_eager"):
        yield lambda *arguments: main([str(argument) for argument in arguments])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_one_sentence_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("This machine has no NVIDIA GPU")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_tensorrt_one_sentence_says_what_is_missing(
    benchmark: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark(tmp_path, "--device", "cpu", "--backend", "tensorrt") == 2
    error = capsys.readouterr().err
    assert error.startswith("tensorrt cannot be used here: ")
    assert len(error.strip().splitlines()) == 1


def test_a_tiled_bundle_is_refused_in_one_sentence(
    benchmark: Benchmark, tiled_bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark(tmp_path, "--bundle", tiled_bundle_folder, "--device", "cpu", "--backend", "openvino") == 2
    assert "cuts images into tiles" in capsys.readouterr().err


def test_an_engine_is_compared_timed_and_run_on_two_threads(
    benchmark: Benchmark,
    bundle_folder: Path,
    float_bundle_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = ("--bundle", bundle_folder, "--bundle", float_bundle_folder)
    assert benchmark(tmp_path, *both, "--backend", "onnxruntime", "--device", "cpu", *FEW, "--batches", "1,2") == 0
    integer, floating = json.loads((tmp_path / "gpu.json").read_text())["engines"]
    assert (integer["precision"], floating["precision"]) == ("int8", "fp32")
    for one in (integer, floating):
        assert one["agrees"] is True
        assert one["agreement"]["reference"] == "openvino"
        assert (one["soak"]["runs"], one["soak"]["threads"], one["soak"]["deviating"]) == (30, 2, 0)
        assert set(one["latency"]) == {"1", "2"}
        for found in one["latency"].values():
            assert set(found) == {"onnxruntime", "PyTorch FP32 eager", "torch.compile FP16"}
            for latency in found.values():
                assert 0 < latency["lowest"] <= latency["median"] <= latency["highest"]
                assert latency["median"] <= latency["p95"]
                assert latency["device"] is None
    # Two libraries round alike where nothing is rounded to integers, and not where it is.
    assert floating["agreement"]["map_error"] < 1e-3 < integer["agreement"]["map_error"]
    page = (tmp_path / "gpu.md").read_text()
    assert page in capsys.readouterr().out
    assert page.count("| stfpm |") == 2 * 2 * 3 + 2


def test_what_was_measured_is_not_measured_again(
    benchmark: Benchmark, float_bundle_folder: Path, tmp_path: Path
) -> None:
    one = ("--bundle", float_bundle_folder, "--backend", "openvino", "--device", "cpu", "--batches", "1")
    arguments = (*one, *FEW)
    assert benchmark(tmp_path, *arguments) == 0
    (kept,) = (tmp_path / "figures").iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"agrees": False}))
    assert benchmark(tmp_path, *arguments) == 1
    assert benchmark(tmp_path, *arguments, "--calls", 3) == 0


class Drifting(Backend):
    """A real engine whose every fifth score is off, and that keeps what it has seen."""

    name = "drifting"

    def __init__(self, backend: Backend, keeps: int) -> None:
        self._backend, self._kept, self._keeps, self._runs = backend, [], keeps, 0

    def run(self, batch: NDArray[np.uint8]) -> RawResult:
        found = self._backend.run(batch)
        self._runs += 1
        self._kept.append(np.ones(self._keeps, np.uint8))
        return RawResult(found.maps, found.scores * (1.01 if self._runs % 5 == 0 else 1.0), found.embeddings)


@pytest.mark.parametrize(("keeps", "is_flat"), [(1, True), (1_000_000, False)])
def test_deviating_scores_and_growing_memory_are_found(
    keeps: int, is_flat: bool, float_bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu_soak import soak

    network = bundles.load(float_bundle_folder).network
    images = np.random.default_rng(0).integers(0, 256, (3, network.input.height, network.input.width, 3), np.uint8)
    expected = open_backend(network, "openvino").run(images).scores
    found = soak(lambda: Drifting(open_backend(network, "openvino", 1), keeps), images, expected, 80, 2, None)
    assert found.deviating == 16
    assert found.is_flat is is_flat
    assert found.device is None


@pytest.mark.slow
def test_torch_compile_runs_beside_the_engine(benchmark: Benchmark, float_bundle_folder: Path, tmp_path: Path) -> None:
    arguments = ("--bundle", float_bundle_folder, "--backend", "openvino", "--device", "cpu", *FEW)
    with torch.compiler.set_stance("default"):
        assert benchmark(tmp_path, *arguments) == 0
