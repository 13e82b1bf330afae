"""What is written: INT8 where it should be, the same integers in both forms, the same results in both runtimes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from build_engines import graph, lint
from build_engines.export import for_tensorrt
from build_engines.quantization.calibration import MinMax
from engines import bundle as bundles
from engines.backends import RawResult, open_backend
from engines.bundle import Network
from engines.images import decode
from tests.conftest import quantize_small


@pytest.fixture(scope="module")
def pixels(bundle_folder: Path, parts_folder: Path) -> np.ndarray:
    size = bundles.load(bundle_folder).manifest.input
    paths = sorted(parts_folder.glob("*/test/*/*.png"))[::3]
    return np.stack([decode(path.read_bytes(), size.height, size.width).pixels for path in paths])


def run(network: Network, pixels: np.ndarray, backend: str = "openvino") -> RawResult:
    return open_backend(network, backend, threads=1).run(pixels)


def difference(result: RawResult, reference: RawResult) -> float:
    """Mean map error, relative to the mean map."""
    return float(np.abs(result.maps - reference.maps).mean() / reference.maps.mean())


def test_every_convolution_of_teacher_and_student_is_int8(bundle_folder: Path) -> None:
    model = onnx.load(bundle_folder / bundles.MODEL)
    made_by = graph.producers(model)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 30
    assert {made_by[name].op_type for node in convolutions for name in node.input[:2]} == {"DequantizeLinear"}
    assert {name.split("/")[2] for name in (node.name for node in convolutions)} == {"teacher", "student"}


def test_int8_bundle_is_a_quarter_of_the_float_one(bundle_folder: Path, float_bundle_folder: Path) -> None:
    sizes = [(folder / bundles.MODEL).stat().st_size for folder in (float_bundle_folder, bundle_folder)]
    assert sizes[0] / sizes[1] > 3.5


def test_int8_maps_stay_near_float_maps(bundle_folder: Path, float_bundle_folder: Path, pixels: np.ndarray) -> None:
    quantized, floating = (run(bundles.load(folder).network, pixels) for folder in (bundle_folder, float_bundle_folder))
    assert difference(quantized, floating) < 0.15


def test_tensorrt_form_holds_the_same_integers(bundle_folder: Path) -> None:
    stored = onnx.load(bundle_folder / bundles.MODEL)
    written = for_tensorrt(stored)
    assert lint.lint(written, "tensorrt") == []
    before, after = graph.initializers(stored), graph.initializers(written)
    checked = 0
    for node in written.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in after:
            weights, scale = (numpy_helper.to_array(after[name]) for name in node.input[:2])
            integers = np.round(weights / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
            original = before[node.input[0].removesuffix("_float")]
            np.testing.assert_array_equal(integers, numpy_helper.to_array(original))
            checked += 1
    assert checked == 30


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_tensorrt_form_gives_the_same_results(
    bundle_folder: Path, tmp_path: Path, pixels: np.ndarray, backend: str
) -> None:
    network = bundles.load(bundle_folder).network
    onnx.save(for_tensorrt(onnx.load(network.path)), tmp_path / "tensorrt.onnx")
    other = Network(tmp_path / "tensorrt.onnx", network.precision, network.input, network.outputs)
    assert difference(run(other, pixels, backend), run(network, pixels, backend)) < 0.03


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.01), ("bf16", 0.2)])
def test_half_precision_bundles(
    run_folder: Path, float_bundle_folder: Path, tmp_path: Path, pixels: np.ndarray, precision: str, tolerance: float
) -> None:
    folder = quantize_small(run_folder, tmp_path / precision, precision, Console(quiet=True))
    bundle = bundles.load(folder)
    assert bundle.manifest.quantization is None
    floating = bundles.load(float_bundle_folder)
    assert bundle.network.path.stat().st_size < 0.55 * floating.network.path.stat().st_size
    assert difference(run(bundle.network, pixels), run(floating.network, pixels)) < tolerance
    assert lint.lint(for_tensorrt(onnx.load(bundle.network.path)), "tensorrt") == []


def test_minmax_keeps_the_largest_magnitude() -> None:
    calibrator = MinMax()
    for batch in ([0.5, -3.0], [2.0, 1.0]):
        calibrator.observe(np.array(batch, np.float32))
    assert calibrator.range() == 3.0
