"""The compared servers: how each is installed, started, and asked by its own way for an image."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a server is asked again and again."""

    path: str
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """A server to compare.

    Attributes:
        packages: of its environment; none means that of this project.
        command: from the folder of programs, the port and a scratch folder.
        request: from an image's bytes.
        score: from the answer's JSON.
    """

    packages: tuple[str, ...]
    command: Callable[[Path, int, Path], list[str]]
    request: Callable[[bytes], Request]
    score: Callable[[dict], float]


@dataclass(frozen=True, slots=True)
class Running:
    """A started server."""

    port: int
    request: Request


def _unispect(*more: str) -> Callable[[Path, int, Path], list[str]]:
    def command(programs: Path, port: int, scratch: Path) -> list[str]:
        flags = ("--bundle", os.environ["COMPARED_BUNDLE"], "--port", str(port), "--data-dir", str(scratch / "data"))
        return [str(programs / "python"), "-m", "service", *flags, *more]

    return command


def _litserve(programs: Path, port: int, _: Path) -> list[str]:
    return [str(programs / "python"), str(HERE / "litserve_server.py"), str(port)]


def _mlserver(programs: Path, port: int, scratch: Path) -> list[str]:
    # In the server's own process: handing an image to a worker's costs more.
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (scratch / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "debug": False}))
    (scratch / "model-settings.json").write_text(
        json.dumps({"name": "inspect", "implementation": "mlserver_model.Model"})
    )
    return [str(programs / "mlserver"), "start", str(scratch)]


def _bentoml(programs: Path, port: int, _: Path) -> list[str]:
    return [
        *(str(programs / "bentoml"), "serve", "bentoml_service:Inspections"),
        *("--host", "127.0.0.1", "--port", str(port), "--working-dir", str(HERE)),
    ]


def _raw(path: str) -> Callable[[bytes], Request]:
    return lambda data: Request(path, "image/jpeg", data)


def _form(data: bytes) -> Request:
    boundary = "----compared"
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="part.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return Request("/predict", f"multipart/form-data; boundary={boundary}", body)


def _open_inference(data: bytes) -> Request:
    image = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(data).decode()],
    }
    return Request("/v2/models/inspect/infer", "application/json", json.dumps({"inputs": [image]}).encode())


def _plain_score(answer: dict) -> float:
    return float(answer["score"])


def _tensor_score(answer: dict) -> float:
    return float(next(output["data"][0] for output in answer["outputs"] if output["name"] == "score"))


SERVERS = {
    "unispect": Server((), _unispect(), _raw("/v1/inspections"), _plain_score),
    # Like the others it does not wait for the disk; unlike them it still has every inspection after a crash.
    "unispect, ledger-sync normal": Server(
        (), _unispect("--ledger-sync", "normal"), _raw("/v1/inspections"), _plain_score
    ),
    "litserve": Server(("litserve==0.2.19", "python-multipart>=0.0.20"), _litserve, _form, _plain_score),
    "mlserver": Server(("mlserver==1.7.1",), _mlserver, _open_inference, _tensor_score),
    "bentoml": Server(("bentoml==1.4.39",), _bentoml, _raw("/inspect"), _plain_score),
}


@contextmanager
def running(name: str, programs: Path, bundle: Path, data: bytes, score: float) -> Iterator[Running]:
    """A server that gives the right score, stopped with all its processes in the end.

    Raises SystemExit where it does not start, or scores otherwise.
    """
    server, port = SERVERS[name], free_port()
    os.environ["COMPARED_BUNDLE"] = str(bundle.resolve())
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}", "BENTOML_DO_NOT_TRACK": "True"}
    request = server.request(data)
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        command = server.command(programs, port, Path(folder))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            answer = _first_answer(port, request, process, Path(log.name))
            if abs(server.score(answer) - score) > 1e-5 * abs(score):
                raise SystemExit(f"{name} scores {server.score(answer):.6g} and the engine {score:.6g}.")
            yield Running(port, request)
        finally:
            _stop(process)


def free_port() -> int:
    """A TCP port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _first_answer(port: int, request: Request, process: subprocess.Popen[bytes], log: Path) -> dict:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", request.path, request.body, {"Content-Type": request.media_type})
            response = connection.getresponse()
            if response.status == 200:
                answer: dict = json.loads(response.read())
                return answer
            connection.close()
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    sys.stderr.write(log.read_text(errors="replace")[-4000:])
    raise SystemExit(f"{process.args} gave no answer.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Some leave children behind, in sessions of their own."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    for one in alive:
        one.kill()
    process.wait()
