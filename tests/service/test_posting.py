"""`inspection-service post`, as people call it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from service.posting import main
from tests.service.running import PROGRAM, RunningServer, free_port


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def files(tmp_path: Path, pictures: list[bytes]) -> list[Path]:
    written = [tmp_path / f"Teil {number}.png" for number in range(6)]
    for file, data in zip(written, pictures, strict=False):
        file.write_bytes(data)
    return written


@pytest.fixture
def post(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def run(*arguments: object) -> Done:
        code = main([*map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return run


def test_the_program_posts(server: RunningServer, files: list[Path]) -> None:
    command = [*PROGRAM, "post", "--url", server.url, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == len(files)


def test_each_file_gets_a_line_in_order(post: Callable[..., Done], server: RunningServer, files: list[Path]) -> None:
    done = post("--url", server.url, *files)
    lines = done.out.splitlines()
    assert done.code == 0, done.err
    assert [file.name in line for file, line in zip(files, lines, strict=True)] == [True] * len(files)
    assert all(line.split()[0] in ("pass", "review", "fail") for line in lines)
    assert "6 images" in done.err


def test_a_second_call_gets_what_was_recorded_by_the_first(
    post: Callable[..., Done], server: RunningServer, files: list[Path]
) -> None:
    first, second, anew = (
        [json.loads(line)["inspection"] for line in post("--url", server.url, "--json", *more, *files).out.splitlines()]
        for more in ((), (), ("--anonymous", "--station", "hall 2"))
    )
    assert [one["part_id"] for one in first] == [file.name for file in files]
    assert [one["id"] for one in second] == [one["id"] for one in first]
    assert {one["id"] for one in anew}.isdisjoint(one["id"] for one in first)
    assert {one["part_id"] for one in anew} == {None}


def test_a_refused_file_is_told_and_the_others_are_inspected(
    post: Callable[..., Done], server: RunningServer, files: list[Path]
) -> None:
    files[1].write_bytes(b"no image")
    done = post("--url", server.url, *files)
    assert done.code == 1
    assert [line.split()[0] == "refused" for line in done.out.splitlines()] == [False, True, *[False] * 4]


def test_a_missing_file_or_service_is_one_sentence(
    post: Callable[..., Done], server: RunningServer, files: list[Path], tmp_path: Path
) -> None:
    for arguments, word in (
        (("--url", server.url, tmp_path / "missing.png"), "missing.png"),
        (("--url", server.url + "/elsewhere", *files), "elsewhere"),
        (("--url", "no url", *files), "no url"),
        (("--url", server.url, "--key-file", tmp_path / "no-key", *files), "no-key"),
        (("--url", server.url, "--ca", files[0], *files), "inspection-service"),
        (("--url", f"http://127.0.0.1:{free_port()}", files[0]), "reachable"),
    ):
        done = post(*arguments)
        assert done.code == 2, done.err
        assert word in done.err
        assert len(done.err.strip().splitlines()) == 1
        assert done.out == ""
