"""Compiling a bundle: what is given to the compiler, what is stored, what is refused, and the process that does it.

The compiler itself is real in test_compile_rtx. Here a plan is the very graph that a compiler would get, on a GPU made
of this process's memory: what is converted wrongly gives wrong numbers and is not stored.
"""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from engines import bundle as bundles
from engines import compilation
from engines.bundle import Bundle
from engines.compilation import Request, compile_bundle, source_of
from engines.compile import main
from engines.compile_process import CompileProcess, Stage
from engines.errors import CompileError, GraphError
from engines.half_precision import head
from engines.plan_records import Profile
from engines.plans import PlanStore
from tests.engines.host_gpu import HostCompiler, HostDevice, HostLibrary, weaker

without_tensorrt = pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> HostCompiler:
    """A device with TensorRT 8.5 and this compiler."""
    made = HostCompiler()
    monkeypatch.setattr(compilation, "compile_source", made)
    monkeypatch.setattr(compilation, "Library", lambda *_: HostLibrary())
    monkeypatch.setattr(compilation, "Device", HostDevice)
    monkeypatch.setattr(compilation, "why_no_gpu", lambda: None)
    return made


def compiled(
    folder: Path, cache: Path, **asked: object
) -> tuple[compilation.Outcome, list[tuple[Stage, float | None]]]:
    stages: list[tuple[Stage, float | None]] = []
    request = Request(**asked)  # type: ignore[arg-type]
    outcome = compile_bundle(bundles.load(folder), request, cache, lambda stage, share: stages.append((stage, share)))
    return outcome, stages


def test_a_plan_is_checked_stored_and_found_the_next_time(
    bundle_folder: Path, tmp_path: Path, compiler: HostCompiler
) -> None:
    outcome, stages = compiled(bundle_folder, tmp_path)
    assert stages == [
        (Stage.CONVERTING, None),
        (Stage.COMPILING, None),
        (Stage.COMPILING, 0.5),
        (Stage.CHECKING, None),
    ]
    record = outcome.plan.record
    assert not outcome.reused
    assert record.agreement is not None
    assert record.agreement.holds
    assert record.agreement.batches == (1, 8)
    assert (record.key.precision, record.key.compute_capability, record.key.version) == ("int8", "7.2", "8.5.2.2")
    assert outcome.plan.path.with_suffix(".layers.json").is_file()
    again, stages = compiled(bundle_folder, tmp_path)
    assert again.reused
    assert again.plan == outcome.plan
    assert stages == []
    assert len(compiler.seen) == 1


@pytest.mark.parametrize("asked", [{"profile": Profile(preferred=2, largest=4)}, {"precision": "fp16"}])
def test_another_question_gets_another_plan_and_the_compilers_measurements(
    float_bundle_folder: Path, tmp_path: Path, compiler: HostCompiler, asked: dict[str, object]
) -> None:
    first, _ = compiled(float_bundle_folder, tmp_path)
    second, _ = compiled(float_bundle_folder, tmp_path, **asked, workspace_bytes=2**20)
    assert first.plan.path != second.plan.path
    assert [cache for _, _, cache in compiler.seen] == [b"", b"measured"]
    assert compiler.seen[1][1].workspace_bytes == 2**20
    assert first.plan.path.exists()


def test_a_plan_that_is_not_whole_is_compiled_again(
    bundle_folder: Path, tmp_path: Path, compiler: HostCompiler
) -> None:
    outcome, _ = compiled(bundle_folder, tmp_path)
    outcome.plan.path.write_bytes(outcome.plan.path.read_bytes()[:-1])
    again, _ = compiled(bundle_folder, tmp_path)
    assert not again.reused
    assert len(compiler.seen) == 2
    assert PlanStore(tmp_path / "plans").find(again.plan.record.key).plan is not None


def test_a_plan_that_disagrees_with_the_cpu_is_not_stored(
    bundle_folder: Path, tmp_path: Path, compiler: HostCompiler
) -> None:
    compiler.spoil = weaker
    with pytest.raises(CompileError, match=r"disagrees with the CPU on the golden image \(score .*\) and is not used"):
        compiled(bundle_folder, tmp_path)
    assert {path.suffix for path in (tmp_path / "plans").iterdir()} == {".lock", ".timing"}


@pytest.mark.parametrize("strongly_typed", [False, True])
def test_fp16_by_flag_names_what_stays_float_and_fp16_by_graph_computes_the_same(
    float_bundle_folder: Path,
    tmp_path: Path,
    compiler: HostCompiler,
    strongly_typed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HostLibrary, "strongly_typed", strongly_typed)
    outcome, _ = compiled(float_bundle_folder, tmp_path, precision="fp16")
    source = compiler.seen[0][0]
    model = onnx.load_from_string(source.model)
    halves = [t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert bool(halves) == strongly_typed
    if not strongly_typed:
        assert source.float_tensors == head(model)
    assert source.titles[0].startswith("Cast ")
    assert source.tensors == {name for node in model.graph.node for name in node.output}
    assert outcome.plan.record.agreement is not None


def test_float32_is_left_to_itself(float_bundle_folder: Path) -> None:
    assert source_of(bundles.load(float_bundle_folder), "fp32", strongly_typed=False).float_tensors == set()


def test_a_graph_that_breaks_a_rule_is_not_given_to_the_compiler(
    float_bundle_folder: Path, tmp_path: Path, compiler: HostCompiler
) -> None:
    folder = Path(shutil.copytree(float_bundle_folder, tmp_path / "bundle"))
    model = onnx.load(folder / bundles.MODEL)
    model.opset_import[0].version = 20
    onnx.save(model, folder / bundles.MODEL)
    bundles.save_manifest(folder, bundles.load(float_bundle_folder).manifest)
    with pytest.raises(GraphError):
        compiled(folder, tmp_path)
    assert compiler.seen == []


def test_the_plans_are_in_the_bundles_folder_where_no_other_is_given(
    bundle_folder: Path, tmp_path: Path, compiler: HostCompiler
) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    outcome = compile_bundle(bundles.load(folder), Request(), None, lambda *_: None)
    assert outcome.plan.path.parent == folder / "plans"
    assert isinstance(bundles.load(folder), Bundle)


def test_large_images_in_tiles_are_checked_as_whole_ones(
    tiled_bundle_folder: Path, tmp_path: Path, compiler: HostCompiler
) -> None:
    outcome, _ = compiled(tiled_bundle_folder, tmp_path)
    assert outcome.plan.record.agreement is not None
    assert outcome.plan.record.agreement.holds


@pytest.mark.parametrize(
    ("fixture", "asked", "message"),
    [
        ("bundle_folder", {"precision": "fp16"}, "holds a network in int8 and cannot be compiled in fp16; write one"),
        ("float_bundle_folder", {"precision": "int8"}, "quantize --precision int8"),
        ("bundle_folder", {"compute_capability": "8.6"}, "compiles for the GPU at hand alone"),
        ("bundle_folder", {"workspace_bytes": 10**15}, "GB free and compiling needs"),
    ],
)
def test_what_cannot_be_compiled_is_said_before_anything_is(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    compiler: HostCompiler,
    fixture: str,
    asked: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(CompileError, match=message):
        compiled(request.getfixturevalue(fixture), tmp_path, **asked)
    assert compiler.seen == []


def test_without_a_gpu_nothing_is_compiled(
    bundle_folder: Path, tmp_path: Path, compiler: HostCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "why_no_gpu", lambda: "no GPU here")
    with pytest.raises(
        CompileError, match=r"no GPU to compile for \(no GPU here\); compile on the device that will run"
    ):
        compiled(bundle_folder, tmp_path)


COMMAND = (sys.executable, "-m", "engines.compile")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "The arguments are wrong (the following arguments are required: BUNDLE)"),
        (["{bundle}", "--backend", "cuda"], "argument --backend: invalid choice: 'cuda'"),
        (["{bundle}", "--precision", "int4"], "argument --precision: invalid choice: 'int4'"),
        (["{bundle}", "--workspace", "-5"], "'-5' is no number of megabytes"),
        (["{bundle}", "--compute-capability", "sm86"], "'sm86' is no compute capability such as 8.6"),
        (["{bundle}", "--max-batch", "2", "--preferred-batch", "4"], "preferred batch 4 is above the largest, 2"),
        (["{bundle}", "--max-batch", "0"], "greater than or equal to 1"),
        (["/nowhere"], "There is no bundle in /nowhere"),
        pytest.param(["{bundle}"], "TensorRT is not installed here", marks=without_tensorrt),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(bundle_folder: Path, arguments: list[str], message: str) -> None:
    given = [one.format(bundle=bundle_folder) for one in arguments]
    done = subprocess.run([*COMMAND, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not (bundle_folder / "plans").exists()


@without_tensorrt
def test_a_process_that_fails_hands_its_sentence_on(bundle_folder: Path) -> None:
    process = CompileProcess(bundle_folder, ["--nice", "5"], lambda line: pytest.fail(f"logged {line}"))
    with pytest.raises(CompileError, match=r"^TensorRT is not installed here; choose the backend openvino or auto\.$"):
        process.follow(lambda _: None)


def test_a_process_that_is_killed_is_said_to_be(bundle_folder: Path) -> None:
    process = CompileProcess(bundle_folder, [], lambda _: None)
    process.kill()
    with pytest.raises(CompileError, match=r"The compiler was killed \(SIGKILL\) .* compile again"):
        process.follow(lambda _: None)


def test_progress_is_one_object_a_line(
    bundle_folder: Path, tmp_path: Path, compiler: HostCompiler, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(bundle_folder), "--cache-dir", str(tmp_path), "--max-batch", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all({"stage", "seconds", "fraction"} <= line.keys() for line in lines)
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["converting", "compiling", "checking", "ready"]
    assert lines[-1]["reused"] is False
    assert Path(lines[-1]["plan"]).is_file()
    assert lines[-1]["record"]["key"]["profile"] == {"preferred": 1, "largest": 2}
