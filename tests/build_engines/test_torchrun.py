"""Training by PyTorch's own torchrun: processes of one machine and of several, as one process trains."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from build_engines import run
from build_engines.commands.options import ArgumentError
from build_engines.errors import RecipeError, RunError
from tests.conftest import quantize_small, train_small
from tests.service.running import free_port, running_server

Outcome = tuple[int, str, str]
PATIENCE = 300.0
ROOT = Path(__file__).parents[2]
# 48 training images make six batches of 7, which two processes cannot halve.
TINY = {"image_size": 64, "epochs": 8, "batch_size": 7, "mixed_precision": False}
OPTIONS = ("--teacher-weights", "procedural", "--device", "cpu", "--lr", "0.2")


def flags(**asked: object) -> list[str]:
    """Options of train; False is `--no-…`."""
    given = []
    for name, value in asked.items():
        option = name.replace("_", "-")
        given += [f"--no-{option}"] if value is False else [f"--{option}", str(value)]
    return given


@contextmanager
def started(command: Sequence[object], *launcher: str) -> Iterator[subprocess.Popen[str]]:
    """torchrun with a command of build-engines, killed with all its processes when the block ends."""
    arguments = [*(launcher or ("--standalone", "--nproc-per-node", "2")), "-m", "build_engines.cli"]
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *arguments, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
            process.wait()


def outcome(process: subprocess.Popen[str]) -> Outcome:
    """Exit code, and what it printed on standard output and on standard error."""
    printed, told = process.communicate(timeout=PATIENCE)
    return process.returncode, printed, told


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trained(parts: Path, out: Path, **asked: object) -> list[object]:
    return ["train", "--data", parts, "--out", out, *OPTIONS, *flags(**{**TINY, **asked})]


def epochs_of(folder: Path) -> int:
    return len(run.load(folder).history) if (folder / run.RECORD).exists() else 0


@pytest.fixture(scope="module")
def together(parts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    folder = tmp_path_factory.mktemp("torchrun") / "run"
    with started(trained(parts_folder, folder)) as process:
        code, printed, told = outcome(process)
    assert code == 0, told
    assert printed.count("Trained 2 part classes on 48 images") == 1
    assert printed.count("Epoch 8 of 8") == 1
    assert "Error" not in told
    return folder


def test_processes_train_what_one_does(parts_folder: Path, together: Path, tmp_path: Path, console: Console) -> None:
    """And the engine made of it serves."""
    alone = tmp_path / "alone"
    train_small(parts_folder, alone, console, **TINY)
    record, expected = run.load_finished(together), run.load_finished(alone)
    assert (record.devices, record.machines, expected.devices) == (2, 1, 1)
    assert record.settings == expected.settings
    assert record.data == expected.data
    assert record.history[0].train_loss == pytest.approx(expected.history[0].train_loss, rel=0.002)
    # Rounding, which grows with the steps.
    for ours, theirs in zip(record.history, expected.history, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=0.05)
        assert ours.held_out_loss == pytest.approx(theirs.held_out_loss, rel=0.05)
    assert sorted(path.name for path in together.iterdir()) == sorted(path.name for path in alone.iterdir())
    bundle = quantize_small(together, tmp_path / "bundle", "int8", console)
    with running_server(bundle, tmp_path / "served") as server:
        picture = next(parts_folder.glob("*/test/good/*.png")).read_bytes()
        answer = server.client.post("/v1/inspections", content=picture, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    assert answer.json()["verdict"] in ("pass", "fail")


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"method": "rd", "corruption": 0.5, "lr": 0.002},
        {"method": "dcam", "corruption": 0.5, "lr": 0.05},
        {"method": "us", "option": "teacher_steps=20", "lr": 0.0005},
    ],
    ids=lambda asked: asked["method"],
)
def test_every_method_trains_so(parts_folder: Path, tmp_path: Path, asked: dict[str, object]) -> None:
    records = []
    for processes in ("1", "2"):
        folder = tmp_path / processes
        launcher = ("--standalone", "--nproc-per-node", processes)
        with started(trained(parts_folder, folder, **asked), *launcher) as process:
            code, _, told = outcome(process)
        assert code == 0, told
        records.append(run.load_finished(folder))
    for ours, theirs in zip(records[1].history, records[0].history, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=0.02)
        assert ours.held_out_loss == pytest.approx(theirs.held_out_loss, rel=0.05)


def test_a_run_goes_on_to_the_same_bytes_after_signals_and_a_kill(
    parts_folder: Path, together: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [*trained(parts_folder, folder), "--resume"]
    for number, epochs in ((signal.SIGTERM, 1), (signal.SIGINT, 3)):
        with started(command) as process:
            wait_for(process, lambda epochs=epochs: epochs_of(folder) >= epochs)
            process.send_signal(number)
            code, printed, told = outcome(process)
        assert code != 0
        assert told.count("Interrupted; call the same command again") == 1
        assert "Trained" not in printed
        assert epochs <= epochs_of(folder) < 8
    # torchrun starts both again where one is killed.
    with started(command, "--standalone", "--nproc-per-node", "2", "--max-restarts", "1") as process:
        begun = epochs_of(folder)
        wait_for(process, lambda: epochs_of(folder) > begun)
        workers = [one for one in psutil.Process(process.pid).children() if "build_engines.cli" in one.cmdline()]
        assert len(workers) == 2
        workers[-1].kill()
        code, _, told = outcome(process)
    assert code == 0, told
    assert (folder / run.STUDENT).read_bytes() == (together / run.STUDENT).read_bytes()
    losses = [[epoch.train_loss for epoch in run.load(one).history] for one in (folder, together)]
    assert losses[0] == losses[1]


def test_machines_without_a_folder_in_common_train_the_same(parts_folder: Path, together: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert codes(of_two_machines(parts_folder, first, second)) == [0, 0]
    record = run.load_finished(first)
    assert (record.devices, record.machines) == (2, 2)
    assert (first / run.STUDENT).read_bytes() == (together / run.STUDENT).read_bytes()
    assert not list(second.iterdir())


@pytest.mark.slow
def test_a_run_goes_on_from_the_first_machines_folder_alone(parts_folder: Path, together: Path, tmp_path: Path) -> None:
    """And is not begun anew where another machine has become the first."""
    first, second = Path(shutil.copytree(together, tmp_path / "first")), tmp_path / "second"
    record = run.load_finished(first)
    run.save(first, record.model_copy(update={"is_finished": False, "history": []}))
    assert codes(of_two_machines(parts_folder, first, second)) == [0, 0]
    assert run.load_finished(first).history == record.history
    ended = of_two_machines(parts_folder, second, first)
    assert 0 not in codes(ended)
    assert sum(told.count("is not on the first machine, but on another") for _, _, told in ended) == 1


def of_two_machines(parts: Path, *folders: Path) -> list[Outcome]:
    """What two torchruns say that have a process and a folder each."""
    shared = ("--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1")
    place = (*shared, "--master-port", str(free_port()), "--node-rank")
    one, other = ([*trained(parts, folder), "--resume"] for folder in folders)
    with started(one, *place, "0") as first, started(other, *place, "1") as second:
        return [outcome(first), outcome(second)]


def codes(ended: list[Outcome]) -> list[int]:
    return [code for code, _, _ in ended]


def test_bad_input_is_one_sentence(parts_folder: Path, tmp_path: Path) -> None:
    for command, sentence in (
        (trained(tmp_path / "none", tmp_path / "run"), f"There is no data folder {tmp_path / 'none'}"),
        (["quantize", tmp_path / "run", "--out", tmp_path / "bundle"], "torchrun is for train alone"),
    ):
        with started(command) as process:
            code, _, told = outcome(process)
        assert code != 0
        assert told.count(sentence) == 1, told
    assert not (tmp_path / "run").exists()


def test_another_number_of_devices_than_of_processes_is_refused(
    parts_folder: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_WORLD_SIZE": 1}
    given |= {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": 0}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ArgumentError, match="--devices 4: torchrun has started 2 processes"):
        train_small(parts_folder, tmp_path / "run", console, devices=4)
    with pytest.raises(RecipeError, match="devices 2 cannot share batch_size 1"):
        train_small(parts_folder, tmp_path / "run", console, batch_size=1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(RunError, match="give each the same --nproc-per-node"):
        train_small(parts_folder, tmp_path / "run", console)


def test_more_processes_than_images_are_refused(parts_folder: Path, tmp_path: Path) -> None:
    command = [*trained(parts_folder, tmp_path / "run", batch_size=64), "--devices", 49]
    done = subprocess.run(
        [sys.executable, "-m", "build_engines.cli", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "49 processes cannot share 48 training images; start fewer.\n")
