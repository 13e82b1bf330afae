"""TensorRT's backend on a GPU made of this process's memory: the numbers of ONNX Runtime, through its buffers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines import bundle as bundles
from engines.backends import Backend, choose, open_backend
from engines.backends import tensorrt as module
from engines.backends.tensorrt import TensorRtBackend, open_tensorrt, why_unusable
from engines.backends.tensorrt_runner import TensorRtOptions
from engines.backends.tiled import TiledBackend
from engines.bundle import Bundle
from engines.detector import Detector
from engines.errors import BackendError, EngineFailed, NoPlan
from engines.golden import check_agreement
from engines.images import decode
from engines.plan_records import PlanKey, PlanRecord, Profile
from engines.plans import PlanStore, plans_folder
from tests.engines.host_gpu import HostDevice, HostGraph, HostLibrary

LARGEST = 4


@pytest.fixture
def bundle(float_bundle_folder: Path) -> Bundle:
    return bundles.load(float_bundle_folder)


@pytest.fixture
def batch(bundle: Bundle, parts_folder: Path) -> np.ndarray:
    paths = sorted(parts_folder.glob("*/test/*/*.png"))[:9]
    return np.stack([decode(path.read_bytes(), *bundle.manifest.image_size).pixels for path in paths])


def opened(
    bundle: Bundle, device: HostDevice | None = None, library: HostLibrary | None = None, **options: Any
) -> TensorRtBackend:
    plan = bundle.network.path.read_bytes()
    chosen = TensorRtOptions(**options)
    return TensorRtBackend(bundle.network, library or HostLibrary(), device or HostDevice(), plan, LARGEST, chosen)


def assert_same(backend: Backend, bundle: Bundle, batch: np.ndarray) -> None:
    expected = open_backend(bundle.network, "onnxruntime", threads=1).run(batch)
    found = backend.run(batch)
    for name in ("maps", "scores", "embeddings"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("mapped", [False, True])
def test_every_batch_gives_the_networks_numbers(bundle: Bundle, batch: np.ndarray, count: int, mapped: bool) -> None:
    assert_same(opened(bundle, mapped=mapped), bundle, batch[:count])


def test_a_smaller_batch_after_a_larger_one_gives_its_own_numbers(bundle: Bundle, batch: np.ndarray) -> None:
    backend = opened(bundle)
    backend.run(batch[:4])
    assert_same(backend, bundle, batch[4:5])
    assert_same(backend, bundle, batch[5:8])


def test_results_are_the_callers_to_keep(bundle: Bundle, batch: np.ndarray) -> None:
    backend = opened(bundle)
    first = backend.run(batch[:1])
    kept = first.maps.copy()
    backend.run(batch[1:2])
    np.testing.assert_array_equal(first.maps, kept)


def test_buffers_are_made_once_and_a_batch_is_waited_for_once(bundle: Bundle, batch: np.ndarray) -> None:
    device = HostDevice()
    backend = opened(bundle, device)
    made = dict(device.calls)
    assert made["host_array"] == 4
    backend.run(batch[:1])
    backend.run(batch[:4])
    assert device.calls["host_array"] == made["host_array"]
    assert device.calls["synchronize"] == device.calls["upload"] == 2
    assert device.calls["download"] == 2 * 3
    assert device.current == 0


def test_mapped_buffers_are_not_copied(bundle: Bundle, batch: np.ndarray) -> None:
    device = HostDevice()
    opened(bundle, device, mapped=True).run(batch[:2])
    assert device.calls["mapped"] == 4
    assert not {"upload", "download", "host_array"} & device.calls.keys()
    assert device.memory == {}


@pytest.mark.parametrize("slow", ["upload", "synchronize"])
def test_where_memory_is_shared_the_faster_buffers_are_taken(
    bundle: Bundle, batch: np.ndarray, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies are slow, or waiting is where nothing was copied."""
    device, waits = HostDevice(integrated=True), []
    monkeypatch.setattr(module, "median", lambda seconds: waits.append(len(seconds)) or _slowness(device, slow))
    backend = opened(bundle, device)
    assert waits == [10, 10]
    before = dict(device.calls)
    backend.run(batch[:1])
    assert (device.calls["upload"] > before["upload"]) == (slow == "synchronize")
    # The buffers that lost are given back.
    assert device.calls["free_host_array"] == 4
    assert len(device.memory) == (4 if slow == "synchronize" else 0)
    assert_same(backend, bundle, batch[:3])


def _slowness(device: HostDevice, slow: str) -> float:
    """After the first ten runs, which copy, and after the second, which do not."""
    first = device.calls["synchronize"] == 10
    return float(first if slow == "upload" else not first)


def test_a_graph_is_captured_for_each_batch_size_and_launched_from_then_on(
    bundle: Bundle, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.backends.tensorrt_runner.CudaGraph", HostGraph)
    monkeypatch.setattr(HostGraph, "launches", 0)
    library = HostLibrary()
    backend = opened(bundle, None, library, cuda_graphs=True)
    for count in (1, 4, 1, 4, 1):
        assert_same(backend, bundle, batch[:count])
    assert library.contexts == 2
    assert HostGraph.launches == 5


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (0, 128, 128, 3), (128, 128, 3), (1, 128, 128, 1)])
def test_a_wrong_batch_is_an_error_and_the_next_one_runs(
    bundle: Bundle, batch: np.ndarray, shape: tuple[int, ...]
) -> None:
    backend = opened(bundle)
    with pytest.raises(BackendError, match="failed on a batch of shape"):
        backend.run(np.zeros(shape, np.uint8))
    assert_same(backend, bundle, batch[:1])


def test_a_gpu_that_fails_stays_failed_and_says_that_the_process_must_go(bundle: Bundle, batch: np.ndarray) -> None:
    library = HostLibrary(fail_after=2)
    backend = opened(bundle, None, library)
    backend.run(batch[:4])
    with pytest.raises(EngineFailed, match=r"illegal memory access.* only a new process can use the GPU again"):
        backend.run(batch[:8])
    library.fail_after = 100
    with pytest.raises(EngineFailed, match="only a new process"):
        backend.run(batch[:1])


def test_what_the_gpu_takes_is_told(bundle: Bundle, batch: np.ndarray) -> None:
    device = HostDevice()
    figures = opened(bundle, device).on_device(batch[:6])
    assert figures is not None
    assert figures.milliseconds > 0
    assert figures.memory_bytes == sum(len(block) for block in device.memory.values()) > 0
    assert open_backend(bundle.network, "onnxruntime").on_device(batch[:1]) is None


def test_closing_gives_everything_back(bundle: Bundle, batch: np.ndarray) -> None:
    device = HostDevice()
    backend = opened(bundle, device)
    backend.run(batch[:1])
    backend.close()
    assert device.closed
    assert device.memory == {}
    assert device.calls["free_host_array"] == 4


def test_a_plan_of_another_network_is_refused(bundle: Bundle) -> None:
    smaller = bundle.network.input.model_copy(update={"height": 64, "width": 64})
    network = dataclasses.replace(bundle.network, input=smaller)
    with pytest.raises(BackendError, match=r"no images of shape \[64, 64, 3\]; compile it from this bundle"):
        TensorRtBackend(network, HostLibrary(), HostDevice(), network.path.read_bytes(), LARGEST)
    with pytest.raises(BackendError, match="refuses the plan"):
        TensorRtBackend(network, HostLibrary(), HostDevice(), b"no plan", LARGEST)


def test_tiles_run_through_it_as_through_any_other(tiled_bundle_folder: Path, parts_folder: Path) -> None:
    bundle = bundles.load(tiled_bundle_folder)
    network, device = bundle.network, HostDevice()
    assert network.grid is not None
    inner = TensorRtBackend(network, HostLibrary(), device, network.path.read_bytes(), LARGEST)
    backend = TiledBackend(inner, network.grid, network.outputs)
    path = next(parts_folder.glob("*/test/*/*.png"))
    batch = decode(path.read_bytes(), *bundle.manifest.image_size).pixels[None]
    assert_same(backend, bundle, batch)
    figures = backend.on_device(batch)
    assert figures is not None
    assert figures.milliseconds > 0
    backend.close()
    assert device.closed


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """A machine with a GPU and TensorRT 8.5."""
    device = HostDevice()
    monkeypatch.setattr(module, "module_name", lambda _: "tensorrt")
    monkeypatch.setattr(module, "why_no_gpu", lambda: None)
    monkeypatch.setattr(module, "Device", lambda: device)
    monkeypatch.setattr(module, "Library", lambda *_: HostLibrary())
    return device


def store_plan(bundle: Bundle, cache_dir: Path | None, **other: str) -> PlanKey:
    key = PlanKey(
        **{
            "onnx_sha256": bundle.manifest.files[bundles.MODEL].sha256,
            "library": "tensorrt",
            "version": "8.5.2.2",
            "compute_capability": "7.2",
            "precision": "fp32",
            "profile": Profile(largest=2),
            **other,
        }
    )
    plan = bundle.network.path.read_bytes()
    record = PlanRecord.of(plan, key, seconds=1.0, workspace_bytes=1)
    PlanStore(plans_folder(bundle.network, cache_dir)).save(record, plan, None)
    return key


def test_auto_takes_tensorrt_where_it_is_usable_and_runs_the_stored_plan(
    bundle: Bundle, batch: np.ndarray, tmp_path: Path, with_gpu: HostDevice
) -> None:
    assert why_unusable() is None
    assert choose() == "tensorrt"
    store_plan(bundle, tmp_path)
    backend = open_backend(bundle.network, "auto", cache_dir=tmp_path)
    assert backend.name == "tensorrt"
    assert_same(backend, bundle, batch[:3])
    assert with_gpu.calls["upload"] == 2


def test_a_network_that_was_verified_is_not_read_again(
    bundle: Bundle, batch: np.ndarray, tmp_path: Path, with_gpu: HostDevice
) -> None:
    store_plan(bundle, tmp_path)
    gone = dataclasses.replace(bundle.network, path=tmp_path / "gone.onnx")
    assert_same(open_tensorrt(gone, "tensorrt", tmp_path), bundle, batch[:1])
    unverified = dataclasses.replace(bundle.network, sha256=None)
    assert_same(open_tensorrt(unverified, "tensorrt", tmp_path), bundle, batch[:1])


def test_the_golden_image_is_the_warm_up_on_it_too(bundle: Bundle, tmp_path: Path, with_gpu: HostDevice) -> None:
    store_plan(bundle, tmp_path)
    assert Detector.open(bundle, "tensorrt", cache_dir=tmp_path).check_golden() > 0


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"compute_capability": "8.7"}, "GPU of compute capability 8.7, and this one has 7.2"),
        ({"version": "8.6.1"}, "compiled by tensorrt 8.6.1, and this is tensorrt 8.5.2.2"),
        ({"onnx_sha256": "3" * 64}, "none was compiled into"),
    ],
)
def test_a_plan_that_does_not_fit_is_not_opened_and_the_reason_is_said(
    bundle: Bundle, tmp_path: Path, with_gpu: HostDevice, other: dict[str, str], reason: str
) -> None:
    store_plan(bundle, tmp_path, **other)
    with pytest.raises(NoPlan, match=f"no plan of .* for host .*{reason}.*python -m engines.compile .* --backend"):
        open_tensorrt(bundle.network, "tensorrt", tmp_path)
    assert with_gpu.closed


def test_a_truncated_plan_is_not_opened(bundle: Bundle, tmp_path: Path, with_gpu: HostDevice) -> None:
    key = store_plan(bundle, tmp_path)
    path = tmp_path / "plans" / f"{key.digest}.plan"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(NoPlan, match="is truncated: 1000 bytes of"):
        open_tensorrt(bundle.network, "tensorrt", tmp_path)


@pytest.mark.parametrize(("count", "holds"), [(1, True), (4, True)])
def test_an_engine_that_computes_the_same_agrees_with_the_cpu(bundle: Bundle, count: int, holds: bool) -> None:
    agreement = check_agreement(bundle, opened(bundle), "host", count)
    assert agreement.holds is holds
    assert agreement.reference == "openvino"
    assert agreement.batches == ((1,) if count == 1 else (1, 4))
    assert agreement.map_error is not None
    assert agreement.map_error < 0.01


def test_an_engine_that_is_off_in_a_batch_alone_is_found(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Off(TensorRtBackend):
        def run(self, batch: np.ndarray) -> Any:
            result = super().run(batch)
            result.maps[1:] *= 1.5
            return result

    plan = bundle.network.path.read_bytes()
    backend = Off(bundle.network, HostLibrary(), HostDevice(), plan, LARGEST)
    assert check_agreement(bundle, backend, "host", 1).holds
    off = check_agreement(bundle, backend, "host", LARGEST)
    assert not off.holds
    assert off.map_error == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["scores", "maps", "embeddings"])
def test_an_engine_that_gives_no_number_does_not_agree(bundle: Bundle, name: str) -> None:
    class Lost(TensorRtBackend):
        def run(self, batch: np.ndarray) -> Any:
            result = super().run(batch)
            getattr(result, name)[-1] = np.nan
            return result

    backend = Lost(bundle.network, HostLibrary(), HostDevice(), bundle.network.path.read_bytes(), LARGEST)
    assert not check_agreement(bundle, backend, "host", LARGEST).holds
