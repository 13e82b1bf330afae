"""A folder in which a page's blocks run one after the other, as in one terminal; and what may be given there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import httpx

from service.client import Client
from tests.docs.blocks import ROOT, Block
from tests.service.running import free_port

BASH = "/bin/bash"
# What a service takes to be ready, the training of `make demo` included.
_READY_SECONDS = 600.0
_BLOCK_SECONDS = 600.0
_STOP_SECONDS = 120.0
_ADDRESS = "127.0.0.1:8000"
# Ctrl-C: a service ends well, make says so of its program, the shell of what it ran.
_INTERRUPTED = (0, 2, 130, -signal.SIGINT)


class Shell:
    """Runs blocks in a folder. What they write 127.0.0.1:8000 for is a free port. A context manager.

    Args:
        folder: an empty one.
        state: a file beside it, for the variables that blocks leave to those after them.
    """

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._state = state
        self._service: tuple[Block | None, subprocess.Popen[bytes], Path] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("UNISPECT_")}
        self._environment = kept | {
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "UNISPECT_PORT": str(self.port),
            # Of the Makefile.
            "PORT": str(self.port),
            "COLUMNS": "160",
        }

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, block: Block) -> None:
        """Run a block to its end; of a service, until it is ready. Fails where it does."""
        if block.stays_up:
            self._stop()
            self._start(block, [BASH, "-euo", "pipefail", "-c", self._script(block)])
            return
        if block.language == "python":
            command = [sys.executable, "-c", self._here(block.code)]
        else:
            command = [BASH, "-euo", "pipefail", "-c", self._script(block)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_BLOCK_SECONDS,
        )
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"{block.where} ended with {done.returncode}:\n{block.code}\n{said}"
        assert "Traceback (most recent call last)" not in said, f"{block.where}:\n{said}"

    def serve(self, bundle: str) -> None:
        """Start the service as most pages have it: all pictures kept, in the folder `data`."""
        command = [sys.executable, "-m", "service", "--bundle", bundle, "--data-dir", "data", "--pictures", "all"]
        self._start(None, command)

    @property
    def url(self) -> str:
        """Of the service."""
        return f"http://127.0.0.1:{self.port}"

    def _script(self, block: Block) -> str:
        state = self._state
        return f"set -a; [ ! -f {state} ] || . {state}\n{self._here(block.code)}\nexport -p > {state}"

    def _here(self, code: str) -> str:
        return code.replace(_ADDRESS, f"127.0.0.1:{self.port}")

    def _start(self, block: Block | None, command: list[str]) -> None:
        log = self._state.with_name("service.log")
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Where the tests themselves run in the background, Ctrl-C is ignored, and that would be inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self._service = (block, process, log)
        where = block.where if block else "the given service"
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            assert process.poll() is None, f"{where} ended with {process.returncode}:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{where} is not ready:\n{log.read_text()}"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        for scheme in ("http", "https"):
            try:
                # The page's own certificate, and this machine's own port.
                answer = httpx.get(f"{scheme}://127.0.0.1:{self.port}/readyz", verify=False, timeout=5)  # noqa: S501
            except httpx.TransportError:
                continue
            return answer.status_code == 200
        return False

    def _stop(self) -> None:
        """As its reader would, by Ctrl-C."""
        if self._service is None:
            return
        block, process, log = self._service
        self._service = None
        os.killpg(process.pid, signal.SIGINT)
        try:
            code = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        where = block.where if block else "the given service"
        assert code in _INTERRUPTED, f"{where} ended with {code}:\n{log.read_text()}"


def give_pictures(folder: Path, parts: Path) -> None:
    """`part.jpg`, a defective part, and `parts`, some good ones and a defect of each class as JPEG."""
    (folder / "parts").mkdir()
    for part in sorted(parts.iterdir()):
        good = sorted((part / "test" / "good").iterdir())
        defects = [min(kind.iterdir()) for kind in sorted((part / "test").iterdir()) if kind.name != "good"]
        for path in (*good, defects[0]):
            name = f"{part.name}-{path.parent.name}-{path.stem}.jpg"
            cv2.imwrite(str(folder / "parts" / name), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 95])
    shutil.copy(min((folder / "parts").glob("*-*[!good]*-*.jpg")), folder / "part.jpg")


def give_lookout(folder: Path, parts: Path) -> None:
    """`pictures`, as a project's folder in S3 was: images by label, and two manifests; and `part.jpg`."""
    bucket, part = "s3://a-bucket/circuitboard", min(parts.iterdir())
    for split in ("train", "test"):
        lines = []
        for path in sorted((part / split).glob("*/*.png")):
            label = "normal" if path.parent.name == "good" else "anomaly"
            name = f"{split}/{label}/{path.parent.name}-{path.stem}.jpg"
            target = folder / "pictures" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), cv2.imread(str(path)))
            metadata = {"class-name": label, "confidence": 1, "type": "groundtruth/image-classification"}
            line = {"source-ref": f"{bucket}/{name}", "anomaly-label": int(label == "anomaly")}
            lines.append(json.dumps({**line, "anomaly-label-metadata": metadata}))
        manifest = folder / "pictures" / "manifests" / f"{split}.manifest"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text("\n".join(lines) + "\n")
    shutil.copy(min((folder / "pictures" / "test" / "anomaly").iterdir()), folder / "part.jpg")


def give_reviews(url: str, parts: Path) -> None:
    """Inspections of all pictures, each reviewed as it really is."""
    with Client(url) as client:
        for path in sorted(parts.glob("*/*/*/*.png")):
            if path.parent.parent.name == "ground_truth":
                continue
            answer = client.inspect(path.read_bytes(), part_class=path.parents[2].name)
            client.review(answer.id, "ok" if path.parent.name == "good" else "defect")


def give_repository(folder: Path) -> None:
    """The repository's files, and a virtual environment in which `make` finds everything installed."""
    for name in ("Makefile", "pyproject.toml", "benchmarks", "build_engines", "deploy", "docs", "engines", "service"):
        (folder / name).symlink_to(ROOT / name)
    environment = folder / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    for stamp in (".torch", ".builder"):
        (environment / stamp).touch()
