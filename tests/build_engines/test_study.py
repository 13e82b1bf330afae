"""A quick study of all methods on synthetic parts, as CI calls it, and what it does when something is wrong."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from build_engines.commands.study import study_parts
from build_engines.methods import METHODS
from tests.build_engines.test_cli import _WITH_SIGINT, call

QUICK = ("--quick", "--teacher-weights", "procedural")


@pytest.fixture(scope="module")
def study(parts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished quick study; `log.txt` holds what it printed."""
    folder = tmp_path_factory.mktemp("study") / "study"
    with (folder.parent / "log.txt").open("w") as log:
        study_parts(
            parts_folder,
            folder,
            methods=list(METHODS),
            quick=True,
            teacher_weights="procedural",
            console=Console(file=log, width=200),
        )
    return folder


def records(study: Path) -> dict[str, dict[str, object]]:
    loaded = [json.loads(path.read_text()) for path in (study / "steps").glob("*.json")]
    return {record["step"]: record for record in loaded}


def test_every_step_of_every_method_is_done(study: Path) -> None:
    failed = {name: record["sentence"] for name, record in records(study).items() if record["sentence"]}
    assert not failed
    log = (study.parent / "log.txt").read_text()
    assert all(re.search(rf"{method} +│ training +│ 3 ", log) for method in METHODS)
    assert "What failed" not in (study / "index.html").read_text()


def test_the_page_shows_all_methods_and_needs_no_network(study: Path) -> None:
    page = (study / "index.html").read_text()
    assert all(method.upper() in page for method in METHODS)
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)
    assert "its figures prove nothing" in page


def test_rows_hold_what_the_engines_gave(study: Path, parts_folder: Path) -> None:
    rows = list(csv.DictReader((study / "results.csv").open()))
    classes = {folder.name for folder in parts_folder.iterdir()}
    assert {row["class"] for row in rows} == classes
    assert {row["method"] for row in rows} == set(METHODS)
    assert all(0 <= float(row["image_auroc"]) <= 1 and 0 <= float(row["pro"]) <= 1 for row in rows)
    int8 = [row for row in rows if row["precision"] == "int8" and row["time_ratio_to_pytorch"]]
    assert all(float(row["milliseconds"]) > 0 for row in int8)
    for row in rows:
        if row["image_auroc_minus_fp32"]:
            assert float(row["interval_low"]) <= float(row["image_auroc_minus_fp32"]) <= float(row["interval_high"])


def test_narrow_weights_are_counted_packed(study: Path) -> None:
    rows = list(csv.DictReader((study / "results.csv").open()))
    narrow = [row for row in rows if row["simulated"] == "True"]
    assert narrow
    assert all(int(row["bytes_packed"]) < int(row["bytes"]) for row in narrow)


def test_a_second_call_does_nothing_anew(capsys: pytest.CaptureFixture[str], study: Path, parts_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (study / "steps").iterdir()}
    arguments = ("study", "--data", parts_folder, "--out", study, "--methods", ",".join(METHODS), *QUICK)
    began = time.monotonic()
    assert call(capsys, *arguments)[0] == 0
    assert time.monotonic() - began < 30
    assert {path: path.stat().st_mtime_ns for path in (study / "steps").iterdir()} == before


def test_what_failed_is_recorded_and_tried_again(
    capsys: pytest.CaptureFixture[str], study: Path, parts_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    arguments = ("study", "--data", parts_folder, "--out", copy, "--methods", "stfpm", *QUICK)
    (record,) = (copy / "steps").glob("stfpm-unified-fp16-*.json")
    record.unlink()
    (student,) = copy.glob("runs/stfpm-unified-*/student.safetensors")
    whole = student.read_bytes()
    student.write_bytes(whole[:100])
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "stfpm unified FP16" in out
    assert "1 of 14 steps failed" in out
    assert json.loads(record.read_text())["sentence"]
    assert "stfpm unified FP16: " in (copy / "study.md").read_text()
    student.write_bytes(whole)
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "steps failed" not in out
    assert json.loads(record.read_text())["result"]["size"] > 0


def test_maps_lie_over_pictures_only_when_asked(
    capsys: pytest.CaptureFixture[str], study: Path, parts_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    assert "picture, FP32, INT8" not in (copy / "index.html").read_text()
    arguments = ("study", "--data", parts_folder, "--out", copy, "--methods", "stfpm", *QUICK, "--with-images")
    assert call(capsys, *arguments)[0] == 0
    assert "picture, FP32, INT8" in (copy / "index.html").read_text()


def test_the_plan_alone_writes_nothing(capsys: pytest.CaptureFixture[str], parts_folder: Path, tmp_path: Path) -> None:
    arguments = ("study", "--data", parts_folder, "--out", tmp_path / "study", "--methods", "stfpm", "--plan-only")
    code, out, _ = call(capsys, *arguments, "--teacher-weights", "procedural")
    assert code == 0
    assert re.search(r"calibration +│ 16 +│ 0 +│ \d+ (s|min)", out)
    assert not (tmp_path / "study").exists()


def test_a_training_that_fails_takes_only_its_engines_along(
    capsys: pytest.CaptureFixture[str], parts_folder: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(parts_folder, tmp_path / "parts"))
    broken, *_ = sorted(data.glob("*/train/good/*.png"))
    broken.write_bytes(broken.read_bytes()[:300])
    arguments = ("study", "--data", data, "--out", tmp_path / "study", "--methods", "stfpm", *QUICK)
    code, out, error = call(capsys, *arguments)
    assert code == 2
    assert "No FP32 engine could be measured" in error
    assert str(broken) in error
    assert "left out, for stfpm unified training failed" in out
    first, second = sorted(folder.name for folder in data.iterdir())
    done = {name for name, record in records(tmp_path / "study").items() if record["result"]}
    assert done == {f"stfpm/{second}/training", f"stfpm/{second}/fp32"}
    assert first in str(broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "patchcore"], "--methods 'patchcore' is not one of"),
        (["--methods", ","], "--methods is empty"),
        (["--teacher", "vgg16"], "--teacher 'vgg16' is not one of"),
        (["--teacher-weights", "/nowhere.pth"], "There is no teacher weights file /nowhere.pth"),
        (["--data", "/nowhere"], "There is no data folder /nowhere"),
    ],
)
def test_wrong_options(
    capsys: pytest.CaptureFixture[str], parts_folder: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    defaults = {"--data": parts_folder, "--out": tmp_path / "study", "--methods": "stfpm"}
    defaults |= {} if "--teacher" in options else {"--teacher-weights": "procedural"}
    given = {**defaults, **dict(zip(options[::2], options[1::2], strict=True))}
    code, _, error = call(capsys, "study", *(part for pair in given.items() for part in pair))
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "study").exists()


def test_a_class_without_test_pictures_is_refused(
    capsys: pytest.CaptureFixture[str], parts_folder: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(parts_folder, tmp_path / "parts"))
    shutil.rmtree(next(data.iterdir()) / "test" / "good")
    code, _, error = call(capsys, "study", "--data", data, "--out", tmp_path / "study", "--methods", "stfpm", *QUICK)
    assert code == 2
    assert "needs a folder 'good' and a folder per defect" in error
    assert not (tmp_path / "study").exists()


def test_a_folder_of_something_else_is_refused(capsys: pytest.CaptureFixture[str], parts_folder: Path) -> None:
    code, _, error = call(capsys, "study", "--data", parts_folder, "--out", parts_folder, "--methods", "stfpm", *QUICK)
    assert code == 2
    assert "exists and is no study" in error


def test_an_interrupted_study_goes_on_where_it_stopped(
    capsys: pytest.CaptureFixture[str], parts_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    arguments = ["study", "--data", str(parts_folder), "--out", str(out), "--methods", "stfpm", *QUICK]
    command = [sys.executable, "-m", "build_engines.cli", *arguments]
    with subprocess.Popen(
        [sys.executable, "-c", _WITH_SIGINT, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob("steps/stfpm-unified-training-*.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1].startswith("Interrupted; call the same command again")
    code, plan, _ = call(capsys, *arguments, "--plan-only")
    assert code == 0
    assert re.search(r"training +│ 3 +│ 1 ", plan)
