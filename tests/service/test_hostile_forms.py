"""Multipart bodies made to hurt: refused fast, at no cost in memory, and never an error of the service."""

import psutil
import pytest

from tests.service.conftest import RAW
from tests.service.running import RunningServer

URL = "/v1/inspections"
SECONDS = 3.0
MEMORY_MARGIN = 64 * 2**20
BOUNDARY = "frontier"
LINE = b"\r\n--frontier"
FILE = b'\r\nContent-Disposition: form-data; name="file"; filename="part.png"\r\n\r\n'
MEGABYTES = 30 * 2**20


def form(*parts: bytes, end: bytes = b"--\r\n") -> bytes:
    return LINE[2:] + LINE.join(parts) + LINE + end


def field(name: bytes, value: bytes) -> bytes:
    return b'\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value


def repeated(piece: bytes) -> bytes:
    return piece * (MEGABYTES // len(piece))


HOSTILE = {
    "nothing": b"",
    "no boundary in it": b"hello",
    "only the boundary": LINE[2:],
    "only an end": LINE[2:] + b"--",
    "ends within the headers": LINE[2:] + FILE[:30],
    "ends within the file": LINE[2:] + FILE + b"\x89PNG",
    "no blank line": form(FILE[:-2]),
    "no disposition": form(b"\r\nContent-Type: image/png\r\n\r\nx"),
    "no name": form(b'\r\nContent-Disposition: form-data; filename="a.png"\r\n\r\nx'),
    "an empty name": form(field(b"", b"x")),
    "a name that is no text": form(field(b"\xff\xfe\0", b"x")),
    "a file name with a way out": form(FILE.replace(b"part.png", b"../../../etc/passwd") + b"x"),
    "a file name of a megabyte": form(FILE.replace(b"part.png", b"x" * 2**20) + b"x"),
    "a header of 30 MB": form(b"\r\nX-Huge: " + b"x" * MEGABYTES + FILE),
    "a header name of 30 MB": form(b"\r\n" + b"x" * MEGABYTES + b": 1" + FILE),
    "a million headers": form(repeated(b"\r\nX: y") + FILE),
    "a header without a colon": form(b"\r\nnonsense" + FILE),
    "control characters in a header": form(b"\r\nX-\0\1: y" + FILE),
    "thousands of fields": form(*[field(b"x", b"")] * 20_000),
    "thousands of files": form(*[FILE + b"x"] * 20_000),
    "a field of 30 MB": form(field(b"file", b"x" * MEGABYTES)),
    "17 fields of 1 MB": form(*[field(b"x", b"x" * 2**20)] * 17),
    "two files": form(FILE + b"x", FILE + b"y"),
    "30 MB of line feeds before it": repeated(b"\r\n") + form(FILE + b"x"),
    "30 MB of almost boundaries": form(FILE + repeated(LINE[:-1])),
    "30 MB of boundaries gone wrong": form(FILE + repeated(LINE + b"x")),
    "30 MB of carriage returns": form(FILE + repeated(b"\r")),
    "30 MB after the end": form(FILE + b"x") + repeated(b"x"),
    "30 MB of ends": form(FILE + b"x") + repeated(LINE + b"--\r\n"),
    "nested": form(b"\r\nContent-Type: multipart/mixed; boundary=frontier" + FILE + form(FILE + b"x")),
    "an encoding that is not done": form(b"\r\nContent-Transfer-Encoding: base64" + FILE + b"iVBORw0KGgo="),
}
BOUNDARIES = {
    "none": "",
    "empty": "; boundary=",
    "of 5000 letters": "; boundary=" + "x" * 5000,
    "quoted without an end": '; boundary="frontier',
    "not the body's": "; boundary=other",
    "in no charset": "; boundary=frontier; charset=no-such",
    "twice": "; boundary=a; boundary=frontier",
    "with a charset of bytes": "; boundary=frontier; charset*=utf-8''%ff",
}


@pytest.fixture(scope="module")
def settled(server: RunningServer, picture: bytes) -> RunningServer:
    """The server after a body as large as those to come, which its memory grows by once."""
    server.client.post(URL, content=b"x" * MEGABYTES, headers=RAW)
    server.client.post(URL, files={"file": ("part.png", b"x" * MEGABYTES)})
    return server


def processor_seconds(server: RunningServer) -> float:
    """What the server has worked so far, whatever else the machine does."""
    times = psutil.Process(server.process.pid).cpu_times()
    return times.user + times.system


def is_refused(server: RunningServer, body: bytes, boundary: str) -> str | None:
    before = processor_seconds(server)
    response = server.client.post(URL, content=body, headers={"Content-Type": f"multipart/form-data{boundary}"})
    seconds = processor_seconds(server) - before
    problem = response.headers["content-type"] == "application/problem+json"
    if 400 <= response.status_code < 500 and problem and seconds < SECONDS:
        return None
    return f"{response.status_code} after {seconds:.2f} s of work: {response.text[:200]}"


def test_a_hostile_form_is_refused_fast_and_leaves_no_trace(settled: RunningServer, picture: bytes) -> None:
    peak = settled.memory("VmHWM")
    wrong = {name: said for name, body in HOSTILE.items() if (said := is_refused(settled, body, "; boundary=frontier"))}
    assert not wrong
    assert settled.memory("VmHWM") - peak < MEMORY_MARGIN
    assert settled.client.post(URL, files={"file": ("part.png", picture)}).status_code == 200
    assert "Traceback" not in settled.log.read_text()


@pytest.mark.parametrize("name", BOUNDARIES)
def test_a_hostile_boundary_is_refused(settled: RunningServer, name: str) -> None:
    assert is_refused(settled, form(FILE + b"x"), BOUNDARIES[name]) is None


def test_every_way_to_cut_a_good_form_is_refused(settled: RunningServer, picture: bytes) -> None:
    whole = form(FILE + picture)
    ends = {*range(0, len(FILE) + len(LINE) + 4, 3), *range(len(whole) - len(LINE) - 8, len(whole) - 4, 2)}
    wrong = {end: said for end in ends if (said := is_refused(settled, whole[:end], "; boundary=frontier"))}
    assert not wrong
