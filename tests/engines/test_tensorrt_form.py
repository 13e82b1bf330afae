"""TensorRT's form of a bundle's network: float32 weights before Q/DQ, and the very same numbers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines import bundle as bundles
from engines import lint
from engines import onnx_graph as graph
from engines.backends import RawResult, open_backend
from engines.bundle import Network
from engines.images import decode
from engines.tensorrt_form import for_tensorrt


@pytest.fixture(scope="module")
def pixels(bundle_folder: Path, parts_folder: Path) -> np.ndarray:
    size = bundles.load(bundle_folder).manifest.input
    paths = sorted(parts_folder.glob("*/test/*/*.png"))[::4]
    return np.stack([decode(path.read_bytes(), size.height, size.width).pixels for path in paths])


def run(network: Network, pixels: np.ndarray, backend: str) -> RawResult:
    return open_backend(network, backend, threads=1).run(pixels)


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
    found, expected = (run(one, pixels, backend).maps for one in (other, network))
    assert np.abs(found - expected).mean() < 0.03 * expected.mean()
