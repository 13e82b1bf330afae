"""Plans on disk: found only where they fit and are whole, and written by one process at a time."""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from engines import files
from engines.errors import CompileError
from engines.plan_records import PlanKey, PlanRecord, Profile, plan_precision
from engines.plans import PlanStore

CONTENT = bytes(range(256)) * 40


def key(**other: object) -> PlanKey:
    usual = {
        "onnx_sha256": "0" * 64,
        "library": "tensorrt",
        "version": "8.5.2.2",
        "compute_capability": "7.2",
        "precision": "int8",
        "profile": Profile(),
    }
    return PlanKey.model_validate({**usual, **other})


def record(of: PlanKey, content: bytes = CONTENT) -> PlanRecord:
    return PlanRecord.of(content, of, seconds=1.0, workspace_bytes=2**30)


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "plans")


def test_a_saved_plan_is_found_again_with_all_that_is_known_of_it(store: PlanStore) -> None:
    saved = store.save(record(key()), CONTENT, '{"Layers": []}')
    found = store.find(key()).plan
    assert found == saved
    assert found is not None
    assert found.path.read_bytes() == CONTENT
    assert found.path.with_suffix(".layers.json").read_text() == '{"Layers": []}'
    assert found.record.key == key()


OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "onnx": ({"onnx_sha256": "1" * 64}, "none was compiled into"),
    "library": ({"library": "tensorrt_rtx"}, "none was compiled into"),
    "version": ({"version": "8.6.1"}, "compiled by tensorrt 8.5.2.2, and this is tensorrt 8.6.1"),
    "device": ({"compute_capability": "8.7"}, "GPU of compute capability 7.2, and this one has 8.7"),
    "precision": ({"precision": "fp16"}, "computes in int8"),
    "profile": ({"profile": Profile(largest=4)}, "batches of up to 8"),
    "form": ({"form": 1000}, "another version of unispect"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_plan_of_another_key_is_not_used_and_the_reason_is_said(store: PlanStore, other: str) -> None:
    changed, reason = OTHERS[other]
    store.save(record(key()), CONTENT, None)
    found = store.find(key(**changed))
    assert found.plan is None
    assert reason in found.reason
    assert key(**changed).digest != key().digest


def test_the_reason_is_of_the_plan_that_is_nearest(store: PlanStore) -> None:
    store.save(record(key(version="8.4.1", compute_capability="8.7")), CONTENT, None)
    store.save(record(key(precision="fp16")), CONTENT, None)
    assert "computes in fp16" in store.find(key()).reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(CONTENT[:-1]), "is truncated: 10239 bytes of 10240"),
        (lambda path: path.write_bytes(CONTENT[:-1] + b"?"), "was altered"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.with_name(f"{path.name}.json").write_text("{"), "cannot be read"),
        (lambda path: path.with_name(f"{path.name}.json").unlink(), "none was compiled"),
    ],
    ids=["truncated", "altered", "missing", "broken record", "no record"],
)
def test_a_plan_that_is_not_whole_is_not_used(store: PlanStore, spoil: object, reason: str) -> None:
    spoil(store.save(record(key()), CONTENT, None).path)  # type: ignore[operator]
    for found in (store.find(key()), store.latest(key())):
        assert found.plan is None
        assert reason in found.reason or "none was compiled" in found.reason
    assert reason in store.find(key()).reason


def test_the_plan_compiled_last_for_this_device_is_taken_whatever_its_precision(store: PlanStore) -> None:
    store.save(record(key(precision="fp32")), CONTENT, None)
    newest = store.save(record(key(precision="fp16", profile=Profile(largest=4))), CONTENT, None)
    store.save(record(key(compute_capability="8.7")), CONTENT, None)
    assert store.latest(key()).plan == newest
    newest.path.write_bytes(b"")
    older = store.latest(key()).plan
    assert older is not None
    assert older.record.key.precision == "fp32"


def test_plans_of_older_versions_go_and_all_others_stay(store: PlanStore) -> None:
    old, other = key(version="8.5.1"), key(version="8.5.1", compute_capability="8.7")
    for one in (old, other):
        store.save(record(one), CONTENT, "{}")
    store.save(record(key()), CONTENT, "{}")
    assert store.find(old).plan is None
    assert store.find(other).plan is not None
    assert not list(store.folder.glob(f"{old.digest}*"))


def test_what_the_compiler_measured_is_kept_a_version_and_device(store: PlanStore) -> None:
    assert store.timing_cache(key()) == b""
    store.save_timing_cache(key(), b"measured")
    assert store.timing_cache(key(precision="fp16", onnx_sha256="2" * 64)) == b"measured"
    assert store.timing_cache(key(version="8.6.1")) == store.timing_cache(key(compute_capability="8.7")) == b""


@pytest.mark.parametrize("asked", [{"preferred": 9}, {"largest": 0}, {"preferred": 0}, {"largest": 5000}])
def test_a_profile_that_contradicts_itself_is_refused(asked: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Profile(**asked)


def test_a_bundle_is_compiled_in_its_own_precision_but_for_bfloat16() -> None:
    assert [plan_precision(p) for p in ("fp32", "fp16", "bf16", "int8")] == ["fp32", "fp16", "fp32", "int8"]


def test_too_little_free_space_is_said_before_anything_is_written(store: PlanStore) -> None:
    store.require_space(1)
    with pytest.raises(CompileError, match=r"GB free and compiling needs 1000000\.0 GB; free some"):
        store.require_space(10**15)
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("call", ["save", "save_timing_cache"])
def test_a_disk_that_fills_up_leaves_nothing_half_written(
    store: PlanStore, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_sync", full)
    arguments = (record(key()), CONTENT, None) if call == "save" else (key(), CONTENT)
    with pytest.raises(CompileError, match=r"disk of .*plans is full .*compile again"):
        getattr(store, call)(*arguments)
    assert list(store.folder.iterdir()) == []


def test_a_really_full_disk_is_said_in_one_sentence(tmp_path: Path) -> None:
    """On a disk of 64 KiB, which a process may mount where it may make a namespace of its own."""
    script = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec {sys.executable} -c {shlex.quote(_FILL)} {tmp_path}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    if shutil.which("unshare") is None or subprocess.run([*command[:4], "true"], check=False).returncode:
        pytest.skip("no process here may mount a disk of its own")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is full (No space left on device)" in done.stdout
    assert "left: []" in done.stdout


def test_a_second_process_waits_and_then_finds_what_the_first_one_made(store: PlanStore) -> None:
    first = start(store.folder, "1.0")
    wait_for(store.folder / "compile.lock")
    time.sleep(0.2)
    second = start(store.folder, "0")
    outputs = [process.communicate(timeout=30)[0].split() for process in (first, second)]
    assert outputs == [["made"], ["waited", "reused"]]


@pytest.mark.parametrize("stage", ["before", "plan", "record"])
def test_a_process_killed_at_any_moment_leaves_a_store_that_works(store: PlanStore, stage: str) -> None:
    """A real process, killed in the lock: before it writes, while the plan is written, and between plan and record."""
    process = start(store.folder, "60", stage)
    wait_for(store.folder / f"reached-{stage}")
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert store.find(key()).plan is None
    assert bool(list(store.folder.glob(".*"))) == (stage == "plan")
    with store.lock(lambda: pytest.fail("the lock of a dead process is still held")):
        assert not list(store.folder.glob(".*"))
        store.save(record(key()), CONTENT, None)
    assert store.find(key()).plan is not None


def start(folder: Path, seconds: str, stage: str = "none") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _MAKER, str(folder), seconds, stage, key().model_dump_json()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


_MAKER = """
import os, sys, time
from pathlib import Path
from engines import files, plans
from engines.plan_records import PlanKey, PlanRecord

folder, seconds, stage = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
key = PlanKey.model_validate_json(sys.argv[4])
store, content = plans.PlanStore(folder), bytes(range(256)) * 40

def pause(name):
    if name == stage:
        (folder / f"reached-{name}").touch()
        time.sleep(seconds)

def replace(scratch, target, real=files.replace_synced):
    pause("plan")
    real(scratch, target)

files.replace_synced = replace
if store.find(key).plan is None:
    with store.lock(lambda: print("waited", flush=True)):
        if store.find(key).plan is None:
            pause("before")
            if stage == "none":
                time.sleep(seconds)
            if stage == "record":
                store.update = lambda record: pause("record")
            store.save(PlanRecord.of(content, key, 1.0, 1), content, None)
            print("made", flush=True)
        else:
            print("reused", flush=True)
"""

_FILL = """
import sys
from pathlib import Path
from engines.errors import CompileError
from engines.plan_records import PlanKey, PlanRecord, Profile
from engines.plans import PlanStore

key = PlanKey(onnx_sha256="0" * 64, library="tensorrt", version="1", compute_capability="7.2", precision="int8",
              profile=Profile())
store = PlanStore(Path(sys.argv[1]))
content = bytes(10**6)
try:
    store.save(PlanRecord.of(content, key, 1.0, 1), content, None)
except CompileError as error:
    print(error, "left:", list(store.folder.iterdir()))
"""
