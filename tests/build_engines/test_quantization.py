"""What is written: INT8 where it should be, the same integers in both forms, the same results in both runtimes."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from rich.console import Console

from build_engines.commands.quantize import quantize_run
from build_engines.finished_run import FinishedRun
from build_engines.quantization.calibrators import CALIBRATORS
from build_engines.quantization.convert import quantize
from build_engines.quantization.settings import QuantizeSettings
from build_engines.quantization.size import packed_bytes
from engines import bundle as bundles
from engines import lint
from engines import onnx_graph as graph
from engines.backends import RawResult, open_backend
from engines.bundle import Network
from engines.images import decode
from engines.tensorrt_form import for_tensorrt
from tests.conftest import quantize_small


@pytest.fixture(scope="module")
def pixels(bundle_folder: Path, parts_folder: Path) -> np.ndarray:
    size = bundles.load(bundle_folder).manifest.input
    paths = sorted(parts_folder.glob("*/test/*/*.png"))[::3]
    return np.stack([decode(path.read_bytes(), size.height, size.width).pixels for path in paths])


@pytest.fixture(scope="module")
def source(run_folder: Path) -> FinishedRun:
    """The run, with what bundles of it share."""
    return FinishedRun(run_folder)


@pytest.fixture(scope="module")
def floating(source: FinishedRun, pixels: np.ndarray) -> RawResult:
    return run_graph(source, source.exported.model, pixels)


def run_graph(source: FinishedRun, model: ModelProto, pixels: np.ndarray) -> RawResult:
    with source.engine(model) as backend:
        return backend.run(pixels)


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


def test_blocks_stay_in_half_floats(
    source: FinishedRun, bundle_folder: Path, floating: RawResult, tmp_path: Path, pixels: np.ndarray
) -> None:
    blocks = "teacher.conv1, teacher.layer1.0, student.layer2.0"
    quantize_run(source, tmp_path / "kept", keep_fp16=blocks, console=Console(quiet=True))
    bundle = bundles.load(tmp_path / "kept")
    model = onnx.load(bundle.network.path)
    made_by, constants = graph.producers(model), graph.initializers(model)
    kept = [node for node in model.graph.node if node.op_type == "Conv" and made_by[node.input[1]].op_type == "Cast"]
    assert bundle.manifest.quantization is not None
    assert [node.name for node in kept] == bundle.manifest.quantization.float_layers
    assert len(kept) == 1 + 2 + 3
    assert {constants[made_by[node.input[1]].input[0]].data_type for node in kept} == {TensorProto.FLOAT16}
    assert not {"DequantizeLinear"} & {made_by[node.input[0]].op_type for node in kept}
    assert lint.lint(model, "bundle") == []
    assert lint.lint(for_tensorrt(model), "tensorrt") == []
    everything = difference(run(bundles.load(bundle_folder).network, pixels), floating)
    assert difference(run(bundle.network, pixels), floating) < 0.9 * everything


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(6, 8), (4, 8), (6, 6), (4, 4)])
def test_fewer_bits_are_simulated(
    source: FinishedRun, tmp_path: Path, pixels: np.ndarray, weight_bits: int, activation_bits: int
) -> None:
    quantize_run(
        source,
        tmp_path / "small",
        images=8,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        console=Console(quiet=True),
    )
    bundle = bundles.load(tmp_path / "small")
    used = bundle.manifest.quantization
    assert used is not None
    assert (used.weight_bits, used.activation_bits, used.simulated) == (weight_bits, activation_bits, True)
    model = onnx.load(bundle.network.path)
    assert lint.lint(model, "bundle") == []
    assert lint.lint(for_tensorrt(model), "tensorrt") == []
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_int8")]
    assert len(weights) == 30
    assert {int(np.abs(one).max()) for one in weights} == {2 ** (weight_bits - 1) - 1}
    stored = sum(one.size for one in weights)
    packed = packed_bytes(model, weight_bits)
    assert bundle.manifest.metrics["packed"] == {"model_bytes": packed}
    assert bundle.network.path.stat().st_size - packed == pytest.approx(stored * (8 - weight_bits) / 8, rel=0.001)
    maps, integers = computed_literally(model, pixels[:4])
    # Eight bits are cut off at -128 by the operator itself.
    assert integers == 2 ** (activation_bits - 1) - 1 or (activation_bits == 8 and integers == 128)
    assert np.abs(run(bundle.network, pixels[:4]).maps - maps).mean() < 0.08 * maps.mean()


def computed_literally(model: ModelProto, pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Maps, and the largest magnitude of the integers that activations become, of every node run as it is written."""
    quantizers = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in quantizers)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    maps, *found = session.run(["maps", *quantizers], {watched.graph.input[0].name: pixels})
    return maps, max(int(np.abs(one.astype(int)).max()) for one in found)


def test_fewer_bits_cost_more_accuracy(source: FinishedRun, floating: RawResult, pixels: np.ndarray) -> None:
    errors = []
    for bits in (8, 6, 4):
        settings = QuantizeSettings("int8", calibrator="mse", images=8, weight_bits=bits, activation_bits=bits)
        errors.append(difference(run_graph(source, quantize(source, settings)[0], pixels), floating))
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_every_calibrator_keeps_the_map(
    source: FinishedRun, floating: RawResult, pixels: np.ndarray, calibrator: str
) -> None:
    model, used = quantize(source, QuantizeSettings("int8", calibrator=calibrator, images=8))
    assert used.calibrator == calibrator
    assert difference(run_graph(source, model, pixels), floating) < 0.2


def test_bundles_from_before_there_were_bits_still_load(bundle_folder: Path, tmp_path: Path) -> None:
    """As the first version wrote them, sealed over the fields that it had."""
    shutil.copytree(bundle_folder, tmp_path / "old")
    path = tmp_path / "old" / bundles.MANIFEST
    content = json.loads(path.read_text())
    for name in ("weight_bits", "activation_bits", "simulated", "fine_tuning_epochs"):
        del content["quantization"][name]
    del content["digest"], content["tiling"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "digest": digest}))
    used = bundles.load(tmp_path / "old").manifest.quantization
    assert used is not None
    assert (used.weight_bits, used.activation_bits, used.simulated, used.fine_tuning_epochs) == (8, 8, False, 0)


def test_qat_and_its_control_are_written_and_say_so(run_folder: Path, tmp_path: Path, console: Console) -> None:
    qat, control, plain = (tmp_path / name for name in ("qat", "control", "plain"))
    shutil.copytree(run_folder, tmp_path / "run")
    run = FinishedRun(tmp_path / "run")
    quantize_run(run, qat, mode="qat", epochs=1, console=console)
    quantize_run(run, control, mode="ptq", epochs=1, console=console)
    quantize_run(run, plain, console=console)
    manifests = [bundles.load(folder).manifest.quantization for folder in (qat, control, plain)]
    assert [(one.mode, one.fine_tuning_epochs) for one in manifests] == [("qat", 1), ("ptq", 1), ("ptq", 0)]
    graphs = [(folder / bundles.MODEL).read_bytes() for folder in (qat, control, plain)]
    assert len(set(graphs)) == 3
    assert len(list((tmp_path / "run" / "fine_tuning").glob("*.ckpt"))) == 2
