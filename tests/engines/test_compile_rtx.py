"""Every method through the real compiler of TensorRT-RTX, which needs no GPU; only running a plan needs one."""

import dataclasses
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from engines import bundle as bundles
from engines import compilation, lint
from engines.backends.tensorrt_compiler import Source, Target, compile_source, float_layers
from engines.backends.tensorrt_library import Library, module_name
from engines.bundle import MODEL, ImageInput
from engines.compilation import Request, compile_bundle
from engines.compile_process import CompileProcess, Progress, Stage
from engines.errors import CompileError
from engines.half_precision import head, in_half, trunk
from engines.onnx_graph import title
from engines.plan_records import PlanPrecision, Profile
from engines.plans import PlanStore
from engines.tensorrt_form import for_tensorrt
from tests import untrained

pytestmark = pytest.mark.skipif(
    module_name("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install 'unispect[trt-check]'",
)
CAPABILITY = "8.6"
ARGUMENTS = ["--backend", "tensorrt_rtx", "--compute-capability", CAPABILITY]


@cache
def library() -> Library:
    return Library("tensorrt_rtx")


def source(model: ModelProto, precision: PlanPrecision, size: int = untrained.SIZE) -> Source:
    return Source(
        model=model.SerializeToString(),
        titles=[title(node) for node in model.graph.node],
        tensors={name for node in model.graph.node for name in node.output},
        input=ImageInput(name="images", height=size, width=size),
        precision=precision,
        float_tensors=head(model),
    )


def target(capability: str = CAPABILITY, largest: int = 8) -> Target:
    return Target(Profile(largest=largest), 2**28, capability)


@pytest.mark.parametrize("method", untrained.NAMES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_method_compiles_in_every_precision(method: str, precision: PlanPrecision) -> None:
    floating = untrained.exported(method).model
    if precision == "int8":
        model = for_tensorrt(untrained.quantized(method))
        assert lint.lint(model, "tensorrt") == []
    else:
        model = floating if precision == "fp32" else in_half(floating)
    shares: list[float] = []
    plan = compile_source(library(), source(model, precision), target(), progress=shares.append).plan
    assert len(plan) > 100_000
    assert shares == sorted(shares)
    assert shares[-1] <= 1.0


@pytest.mark.parametrize("method", untrained.NAMES)
def test_layers_that_must_be_float_are_the_head_with_its_constants(method: str) -> None:
    """As TensorRT 8.5 and 10 are told; what layers a network has is read from a real parser."""
    model = untrained.exported(method).model
    module = library().module
    given = source(model, "fp16")
    network = module.Builder(library().logger).create_network(0)
    parser = module.OnnxParser(network, library().logger)
    assert parser.parse(given.model)
    chosen = float_layers(network, given, module.DataType.FLOAT)
    names = {layer.get_output(number).name for layer, numbers in chosen for number in numbers}
    kinds = {str(layer.type).rpartition(".")[2] for layer, _ in chosen}  # type: ignore[attr-defined]
    assert head(model) <= names
    assert not names & trunk(model)
    assert {"CONSTANT", "REDUCE", "ELEMENTWISE"} <= kinds
    assert "CONVOLUTION" not in kinds
    added = {layer.name for layer, _ in chosen if layer.get_output(0).name not in given.tensors}
    assert any("Constant" in name for name in added)


def test_a_node_that_the_parser_refuses_is_named() -> None:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], name="to_float", to=TensorProto.FLOAT),
        helper.make_node("StringNormalizer", ["floats"], ["maps"], name="odd_one"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [images], [maps]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(CompileError, match=r"TensorRT-RTX 1\.\S+ refuses the node StringNormalizer odd_one: "):
        compile_source(library(), source(model, "fp32", 8), target())


def test_a_network_that_the_gpu_cannot_run_is_refused_with_its_node() -> None:
    """Turing has no float32 matrix product in this library, and the map of rd is smoothed by two."""
    with pytest.raises(CompileError, match=r"cannot compile the network for compute capability 7\.5: .*/method/MatMul"):
        compile_source(library(), source(untrained.exported("rd").model, "fp32"), target("7.5"))


def test_an_unknown_gpu_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(CompileError, match=r"does not compile for compute capability 7\.2; it offers 7\.5, 8\.0, 8\.6"):
        compile_source(library(), source(untrained.exported("us").model, "fp32"), target("7.2"))


def compiled(folder: Path, cache_dir: Path, **asked: object) -> compilation.Outcome:
    request = Request("tensorrt_rtx", compute_capability=CAPABILITY)
    request = dataclasses.replace(request, **asked)  # type: ignore[arg-type]
    return compile_bundle(bundles.load(folder), request, cache_dir, lambda *_: None)


def test_a_bundle_is_compiled_once_for_each_key(bundle_folder: Path, float_bundle_folder: Path, tmp_path: Path) -> None:
    first = compiled(bundle_folder, tmp_path)
    assert first.plan.record.agreement is None
    assert first.plan.record.key.version == library().version
    assert compiled(bundle_folder, tmp_path).reused
    others = [
        compiled(bundle_folder, tmp_path, compute_capability="8.9"),
        compiled(bundle_folder, tmp_path, profile=Profile(largest=2)),
        compiled(float_bundle_folder, tmp_path),
        compiled(float_bundle_folder, tmp_path, precision="fp16"),
    ]
    assert not any(outcome.reused for outcome in others)
    assert len({outcome.plan.path for outcome in (first, *others)}) == 5
    sizes = {outcome.plan.record.key.precision: outcome.plan.record.size for outcome in others[2:]}
    assert sizes["fp16"] < 0.7 * sizes["fp32"]


def test_without_a_gpu_it_says_how_to_compile_all_the_same(bundle_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"no GPU to compile for \(.*\); give --compute-capability to compile"):
        compiled(bundle_folder, tmp_path, compute_capability=None)


def test_a_compiler_killed_at_work_leaves_nothing_and_the_next_one_makes_the_plan(
    bundle_folder: Path, tmp_path: Path
) -> None:
    arguments = [*ARGUMENTS, "--cache-dir", str(tmp_path)]
    process = CompileProcess(bundle_folder, arguments, lambda _: None)

    def kill(now: Progress) -> None:
        if now.stage is Stage.COMPILING and (now.fraction or 0) > 0.3:
            process.kill()

    with pytest.raises(CompileError, match="was killed"):
        process.follow(kill)
    assert [path.name for path in (tmp_path / "plans").iterdir()] == ["compile.lock"]
    stages: list[Progress] = []
    result = CompileProcess(bundle_folder, arguments, lambda _: None).follow(stages.append)
    assert not result.reused
    assert result.record.agreement is None
    assert stages[-1].stage is Stage.READY
    assert PlanStore(tmp_path / "plans").find(result.record.key).plan is not None


def test_of_two_compilers_one_waits_and_takes_the_others_plan(bundle_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engines.compile", str(bundle_folder), *ARGUMENTS, "--cache-dir", str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    next(line for line in first.stdout if '"compiling"' in line)
    first.send_signal(signal.SIGSTOP)
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    waiting = next(line for line in second.stdout if '"waiting"' in line)
    first.send_signal(signal.SIGCONT)
    endings = [process.communicate(timeout=120)[0].splitlines()[-1] for process in (first, second)]
    assert '"stage": "waiting"' in waiting
    assert ['"reused": false' in endings[0], '"reused": true' in endings[1]] == [True, True]
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 1


def test_the_command_line_compiles_and_says_that_the_plan_was_not_run(bundle_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    command = [sys.executable, "-m", "build_engines.cli", "compile", str(folder), *ARGUMENTS, "--max-batch", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = " ".join(done.stdout.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert "int8, batches of up to 2" in said
    assert "The plan has not been run" in said
    (plan,) = (folder / "plans").glob("*.plan")
    assert plan.stat().st_size > 100_000


def test_a_bundle_that_breaks_a_rule_never_reaches_the_compiler(float_bundle_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(float_bundle_folder, tmp_path / "bundle"))
    model = onnx.load(folder / MODEL)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float64(1), "exact"))
    model.graph.node.append(helper.make_node("Cast", ["exact"], ["more"], name="more", to=TensorProto.FLOAT))
    onnx.save(model, folder / MODEL)
    bundles.save_manifest(folder, bundles.load(float_bundle_folder).manifest)
    command = [sys.executable, "-m", "engines.compile", str(folder), *ARGUMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "The constant exact is DOUBLE" in done.stderr
    assert not list((folder / "plans").glob("*.plan"))
