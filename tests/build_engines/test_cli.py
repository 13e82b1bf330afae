"""The command line as a user meets it: one sentence and exit code 2 for bad input, and nothing half-written."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from build_engines.cli import main
from engines import bundle as bundles


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and error of `build-engines` with these arguments."""
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["build-engines", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> object:
    def check(*arguments: object) -> str:
        code, _, error = call(capsys, *arguments)
        assert code == 2
        assert "Traceback" not in error
        assert len(error.strip().splitlines()) == 1
        return error

    return check


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    made = ("synth", "train", "quantize", "rethreshold", "collect", "sensitivity", "export", "pretrain-teacher")
    assert all(command in out for command in (*made, "evaluate", "benchmark", "info", "lint"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "patchcore"], "--method 'patchcore' is not one of stfpm"),
        (["--teacher", "vgg16"], "--teacher 'vgg16' is not one of"),
        (["--teacher-weights", "/nowhere.pth"], "There is no teacher weights file /nowhere.pth"),
        (["--teacher-weights", "procedural", "--teacher", "resnet18"], "resnet18_half, not a resnet18"),
        (["--image-size", "100"], "--image-size"),
        (["--image-size", "2048"], "above 1024"),
        (["--image-size", "5000", "--tile", "256"], "--image-size"),
        (["--image-size", "256", "--tile", "512"], "tile 512"),
        (["--tile", "100"], "--tile"),
        (["--tile", "64"], "overlap 32"),
        (["--tile", "128", "--overlap", "20"], "--overlap"),
        (["--overlap", "16"], "overlap 16"),
        (["--held-out", "1.5"], "--held-out"),
        (["--lr", "-1"], "--lr: Input should be greater than 0"),
        (["--epochs", "0"], "--epochs"),
        (["--classes", "nut"], "no class 'nut'"),
        (["--device", "tpu"], "--device 'tpu' is not one of"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_wrong_training_options(
    refused: object, parts_folder: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    defaults = [] if "--teacher-weights" in options else ["--teacher-weights", "procedural"]
    if "--teacher" in options and options[1] == "vgg16":
        defaults = []
    error = refused("train", "--data", parts_folder, "--out", tmp_path / "run", *defaults, *options)  # type: ignore[operator]
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int4"], "--precision 'int4' is not one of fp32, fp16, bf16, int8"),
        (["--mode", "qta"], "--mode 'qta' is not one of ptq, qat"),
        (["--mode", "qat", "--precision", "fp16"], "--mode qat is for int8, not for fp16"),
        (["--calibration", "noise"], "'noise' is not one of train, random-normal, train+noise, synthetic-anomaly, nor"),
        (["--calibrator", "kl"], "'kl' is not one of minmax, entropy, percentile, mse"),
        (["--weight-bits", "5"], "--weight-bits '5' is not one of 8, 6, 4"),
        (["--activation-bits", "16"], "--activation-bits '16' is not one of 8, 6, 4"),
        (["--weight-bits", "4", "--precision", "fp16"], "are for int8, not for fp16"),
        (["--keep-fp16", "student.layer9"], "'student.layer9' that the network does not have; say auto:N or some of"),
        (["--keep-fp16", "auto:15"], "give a number of blocks from 1 to 14"),
        (["--images", "1000"], "asks for 1000 training images and the run has 48"),
        (["--false-reject", "0.01"], "needs at least 99 held-out good images per class, and there are 6"),
        (["--false-reject", "2"], "not between 0 and 1"),
        (["--review-rate", "0.1"], "needs at least 9 held-out good images per class, and there are 6"),
        (["--review-rate", "0.15"], "adds nothing to a false-reject rate of 0.142857"),
        (["--review-rate", "0.2", "--false-reject", "0.3"], "ask for 0.4286 or more"),
        (["--name", "../x"], "--name '../x'"),
        (["--version", "a b"], "--version 'a b'"),
    ],
)
def test_wrong_quantization_options(
    refused: object, run_folder: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    assert message in refused("quantize", run_folder, "--out", tmp_path / "engine", *options)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_calibration_folder_without_images(refused: object, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    error = refused("quantize", run_folder, "--out", tmp_path / "b", "--calibration", tmp_path / "pictures")  # type: ignore[operator]
    assert "pictures holds no images" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibrator", "kl"], "'kl' is not one of minmax, entropy, percentile, mse"),
        (["--weight-bits", "3"], "--weight-bits '3' is not one of 8, 6, 4"),
        (["--images", "1000"], "asks for 1000 training images and the run has 48"),
    ],
)
def test_wrong_sensitivity_options(refused: object, run_folder: Path, options: list[str], message: str) -> None:
    assert message in refused("sensitivity", run_folder, *options)  # type: ignore[operator]


def test_folder_that_is_no_bundle_is_not_replaced(refused: object, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert "is no bundle" in refused("quantize", run_folder, "--out", tmp_path)  # type: ignore[operator]
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("command", ["info", "benchmark"])
def test_missing_bundle(refused: object, tmp_path: Path, command: str) -> None:
    assert "There is no bundle" in refused(command, tmp_path / "nothing")  # type: ignore[operator]


def test_missing_run(refused: object, tmp_path: Path) -> None:
    assert "There is no training run" in refused("quantize", tmp_path, "--out", tmp_path / "b")  # type: ignore[operator]
    assert "There is no training run" in refused("sensitivity", tmp_path)  # type: ignore[operator]


def test_missing_arguments(refused: object) -> None:
    assert "--data" in refused("train")  # type: ignore[operator]
    assert "BUNDLE" in refused("info")  # type: ignore[operator]
    assert "No such command" in refused("brew")  # type: ignore[operator]


def test_evaluation_table_file_and_page(
    capsys: pytest.CaptureFixture[str], bundle_folder: Path, parts_folder: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    code, out, _ = call(capsys, "evaluate", bundle_folder, "--data", parts_folder, "--json", figures)
    assert code == 0
    assert "mean" in out
    found = json.loads(figures.read_text())
    assert found["mean"]["recognition"] == 1.0
    assert found["mean"]["image_auroc"] > 0.6
    assert all(0 <= part["pro"] <= 1 for part in found["classes"].values())
    page = (tmp_path / "figures.html").read_text()
    assert page.count("data:image/jpeg;base64,") > 0
    assert "http" not in page.replace("https://www.w3.org", "")


def test_evaluation_counts_reviews_apart(
    capsys: pytest.CaptureFixture[str], bundle_folder: Path, parts_folder: Path, tmp_path: Path
) -> None:
    two, three, engine = tmp_path / "two.json", tmp_path / "three.json", tmp_path / "engine"
    assert call(capsys, "rethreshold", bundle_folder, "--review-rate", 0.6, "--out", engine)[0] == 0
    for bundle, figures in ((bundle_folder, two), (engine, three)):
        assert call(capsys, "evaluate", bundle, "--data", parts_folder, "--json", figures)[0] == 0
    before, after = (json.loads(figures.read_text())["mean"] for figures in (two, three))
    assert before["review_good"] == before["review_defective"] == 0
    assert after["review_good"] > 0
    assert after["false_reject"] == before["false_reject"]
    assert after["miss"] == pytest.approx(before["miss"] - after["review_defective"])
    assert ["For review" in path.with_suffix(".html").read_text() for path in (two, three)] == [False, True]


def test_evaluation_of_other_parts_is_refused(refused: object, bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bolt" / "test" / "good").mkdir(parents=True)
    error = refused("evaluate", bundle_folder, "--data", tmp_path)  # type: ignore[operator]
    assert "none of the engine's part classes" in error


def test_benchmark_gives_a_ratio_to_pytorch(
    capsys: pytest.CaptureFixture[str], bundle_folder: Path, tmp_path: Path
) -> None:
    code, out, _ = call(capsys, "benchmark", bundle_folder, "--repeats", 10, "--json", tmp_path / "b.json")
    assert code == 0
    assert "PyTorch FP32 eager" in out
    figures = json.loads((tmp_path / "b.json").read_text())
    assert figures["ratio"] > 0
    assert {"decode", "resize", "engine, batch 1", "engine, batch 8", "post-processing"} <= figures["stages"].keys()


def test_export_writes_what_lint_takes(capsys: pytest.CaptureFixture[str], bundle_folder: Path, tmp_path: Path) -> None:
    assert call(capsys, "export", bundle_folder, "--out", tmp_path / "a.onnx")[0] == 0
    assert call(capsys, "lint", tmp_path / "a.onnx")[0] == 0
    assert call(capsys, "lint", bundle_folder / "model.onnx")[0] == 0
    code, out, error = call(capsys, "lint", bundle_folder / "model.onnx", "--form", "tensorrt")
    assert code == 2
    assert "build-engines export" in out
    assert "breaks 30" in error


@pytest.mark.parametrize("content", [None, b"", b"no graph at all"])
def test_lint_of_what_is_no_graph(refused: object, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    assert str(path) in refused("lint", path)  # type: ignore[operator]


def test_bad_input_in_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build_engines.cli", "info", "/nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("There is no bundle in /nowhere")


def test_images_that_changed_since_the_run_are_noticed(
    refused: object, run_folder: Path, parts_folder: Path, tmp_path: Path
) -> None:
    data, run = tmp_path / "parts", tmp_path / "run"
    shutil.copytree(parts_folder, data)
    shutil.copytree(run_folder, run)
    record = run / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "data_folder": str(data)}))
    first, second, *_ = sorted(data.glob("*/train/good/*.png"))
    first.write_bytes(second.read_bytes())
    assert "changed since the run" in refused("quantize", run, "--out", tmp_path / "b")  # type: ignore[operator]
    first.unlink()
    assert "is gone" in refused("quantize", run, "--out", tmp_path / "b")  # type: ignore[operator]
    assert not (tmp_path / "b").exists()


def test_measured_accuracy_can_be_recorded_in_the_bundle(
    capsys: pytest.CaptureFixture[str], bundle_folder: Path, parts_folder: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    assert call(capsys, "evaluate", bundle, "--data", parts_folder, "--record")[0] == 0
    recorded = bundles.load(bundle).manifest.metrics["test"]
    assert isinstance(recorded, dict)
    assert recorded["recognition"] == 1.0


def test_an_interrupted_training_says_how_to_go_on(parts_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--data", parts_folder, "--teacher-weights", "procedural", "--image-size", 64, "--epochs", 5000]
    command = [sys.executable, "-m", "build_engines.cli", "train", *map(str, [*options, "--out", run])]
    # A shell's background jobs ignore SIGINT, and so would their children.
    with subprocess.Popen(
        [sys.executable, "-c", _WITH_SIGINT, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (run / "checkpoint.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        error = interrupted(process)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1].startswith("Interrupted; call the same command again")


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it says on standard error. Python drops an interrupt that falls into a destructor: one presses again."""
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    return process.communicate()[1]


_WITH_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
