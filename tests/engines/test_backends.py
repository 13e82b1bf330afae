"""Backends give the same numbers, and say why when they cannot."""

import dataclasses
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from engines import bundle as bundles
from engines.backends import RawResult, choose, open_backend
from engines.bundle import Bundle
from engines.errors import BackendError
from engines.images import decode


@pytest.fixture(scope="module")
def batch(bundle_folder: Path, parts_folder: Path) -> np.ndarray:
    size = bundles.load(bundle_folder).manifest.input
    paths = sorted(parts_folder.glob("*/test/*/*.png"))[:5]
    return np.stack([decode(path.read_bytes(), size.height, size.width).pixels for path in paths])


def run(bundle: Bundle, backend: str, batch: np.ndarray) -> RawResult:
    return open_backend(bundle.network, backend, threads=1).run(batch)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("count", [1, 5])
def test_shapes_are_as_the_manifest_says(bundle_folder: Path, batch: np.ndarray, backend: str, count: int) -> None:
    bundle = bundles.load(bundle_folder)
    outputs = bundle.manifest.outputs
    result = run(bundle, backend, batch[:count])
    assert result.maps.shape == (count, outputs.map_height, outputs.map_width)
    assert result.scores.shape == (count,)
    assert result.embeddings.shape == (count, outputs.embedding_size)
    assert {result.maps.dtype, result.scores.dtype, result.embeddings.dtype} == {np.dtype(np.float32)}
    np.testing.assert_allclose(result.scores, result.maps.max(axis=(1, 2)), rtol=1e-6)


def test_openvino_agrees_with_onnxruntime_in_float(float_bundle_folder: Path, batch: np.ndarray) -> None:
    bundle = bundles.load(float_bundle_folder)
    ours, reference = run(bundle, "openvino", batch), run(bundle, "onnxruntime", batch)
    np.testing.assert_allclose(ours.maps, reference.maps, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(ours.embeddings, reference.embeddings, rtol=1e-4, atol=1e-5)


def test_openvino_agrees_with_onnxruntime_in_int8(bundle_folder: Path, batch: np.ndarray) -> None:
    """The noise between two runtimes on one INT8 graph: a value on the edge rounds to one integer or the next."""
    bundle = bundles.load(bundle_folder)
    ours, reference = run(bundle, "openvino", batch), run(bundle, "onnxruntime", batch)
    error = np.abs(ours.maps - reference.maps).mean() / reference.maps.mean()
    assert error < 0.03
    np.testing.assert_allclose(ours.scores, reference.scores, rtol=0.1)


def test_results_do_not_change_with_the_next_run(bundle_folder: Path, batch: np.ndarray) -> None:
    backend = open_backend(bundles.load(bundle_folder).network, "openvino", threads=1)
    first = backend.run(batch[:1])
    kept = first.maps.copy()
    backend.run(batch[1:2])
    np.testing.assert_array_equal(first.maps, kept)


def tasks() -> set[int]:
    """This process's threads, as the kernel numbers them."""
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_an_engine_with_fewer_threads_leaves_the_choice_of_cores_to_the_kernel(
    bundle_folder: Path, batch: np.ndarray
) -> None:
    """Pinned, each of several processes with an engine of one thread has the first core."""
    # Other tests' engines may have left threads of their own behind.
    others = tasks() - {os.getpid()}
    cores = frozenset(os.sched_getaffinity(0))
    engine = open_backend(bundles.load(bundle_folder).network, "openvino", threads=1)
    seen: set[frozenset[int]] = set()
    over = Event()

    def look() -> None:
        while not over.is_set():
            for task in tasks() - others:
                with suppress(ProcessLookupError):
                    seen.add(frozenset(os.sched_getaffinity(task)))

    looking = Thread(target=look)
    looking.start()
    for _ in range(50):
        engine.run(batch[:1])
    over.set()
    looking.join()
    assert seen == {cores}


def test_unknown_backend_is_refused(bundle_folder: Path) -> None:
    with pytest.raises(BackendError, match="no backend 'cuda'"):
        open_backend(bundles.load(bundle_folder).network, "cuda")


def test_tensorrt_says_why_it_cannot(bundle_folder: Path) -> None:
    with pytest.raises(BackendError, match="TensorRT cannot run"):
        open_backend(bundles.load(bundle_folder).network, "tensorrt")


def test_auto_is_openvino_where_tensorrt_is_not_usable() -> None:
    assert choose() == "openvino"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_broken_network_is_refused(bundle_folder: Path, tmp_path: Path, backend: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(BackendError, match="refuses"):
        open_backend(dataclasses.replace(bundles.load(bundle_folder).network, path=path), backend)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_wrong_batch_is_an_error_and_the_next_one_runs(bundle_folder: Path, batch: np.ndarray, backend: str) -> None:
    opened = open_backend(bundles.load(bundle_folder).network, backend, threads=1)
    with pytest.raises(BackendError, match="failed on a batch"):
        opened.run(batch[:, :, :, :1])
    assert np.isfinite(opened.run(batch[:1]).scores).all()


@pytest.mark.parametrize(("backend", "other"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")])
def test_only_the_chosen_library_is_imported(bundle_folder: Path, backend: str, other: str) -> None:
    script = (
        "import sys, pathlib, engines.bundle as b, engines.backends as e; "
        f"e.open_backend(b.load(pathlib.Path({str(bundle_folder)!r})).network, {backend!r}); "
        f"print({backend!r} in sys.modules, {other!r} in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
