"""A database that is lost and comes back, a disk that is full and is freed: nothing acknowledged is lost."""

import asyncio
import resource
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import URL

from service.errors import LedgerFailed
from service.history import History
from service.history_filter import Filter
from service.ids import new_id
from service.ledger.database import parse_url, reading_engine
from service.ledger.ledger import Ledger
from service.reading import ReadingThreads
from service.routes.history import _CSV_PAGE, _csv_pages
from tests.service.conftest import RAW
from tests.service.ledger.postgres import Postgres
from tests.service.ledger.records import make_record
from tests.service.ledger.stored import stored_ids
from tests.service.running import RunningServer, running_server

URL_PATH = "/v1/inspections"


async def until_well(ledger: Ledger) -> None:
    async with asyncio.timeout(30):
        while (problem := ledger.problem) is not None:
            assert problem.endswith(".")
            await asyncio.sleep(0.05)


def test_the_ledger_comes_back_with_its_server(postgres: Postgres, tmp_path: Path) -> None:
    async def scenario(url: URL) -> None:
        ledger = Ledger(url)
        await ledger.start()
        first, lost, last = make_record(), make_record(), make_record()
        await ledger.record(first)
        postgres.stop()
        with pytest.raises(LedgerFailed, match="cannot be written"):
            await ledger.record(lost)
        with pytest.raises(LedgerFailed):
            ledger.check()
        postgres.start()
        await until_well(ledger)
        await ledger.record(last)
        assert [ledger.find(record.id) for record in (first, lost, last)] == [first, None, last]
        await ledger.close()

    asyncio.run(scenario(parse_url(postgres.make_database(f"lost_{new_id()}"), tmp_path)))


def test_a_server_that_was_started_anew_between_two_parts_costs_none(postgres: Postgres, tmp_path: Path) -> None:
    async def scenario(url: URL) -> None:
        ledger = Ledger(url)
        await ledger.start()
        await ledger.record(make_record())
        postgres.stop()
        postgres.start()
        record = make_record()
        await ledger.record(record)
        assert ledger.find(record.id) == record
        await ledger.close()

    asyncio.run(scenario(parse_url(postgres.make_database(f"anew_{new_id()}"), tmp_path)))


def test_a_table_goes_on_once_the_server_is_back(postgres: Postgres, tmp_path: Path) -> None:
    async def scenario(url: URL) -> list[str]:
        ledger = Ledger(url)
        await ledger.start()
        for record in records:
            await ledger.record(record)
        context = SimpleNamespace(history=History(reading_engine(url)), reading=ReadingThreads())
        pages = _csv_pages(context, Filter())
        text = await anext(pages)
        postgres.stop()
        with pytest.raises(LedgerFailed):
            await anext(_csv_pages(context, Filter()))
        following = asyncio.create_task(anext(pages))
        await asyncio.sleep(1.0)
        assert not following.done()
        await asyncio.to_thread(postgres.start)
        text += await following
        context.reading.close()
        await ledger.close()
        return text.splitlines()

    records = [make_record() for _ in range(_CSV_PAGE + 3)]
    lines = asyncio.run(scenario(parse_url(postgres.make_database(f"table_{new_id()}"), tmp_path)))
    assert len(lines) == len(records) + 1
    newest_first = sorted((record.id for record in records), reverse=True)
    assert all(id in line for id, line in zip(newest_first, lines[1:], strict=True))


def test_a_server_that_is_not_there_yet_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    async def scenario(url: URL) -> None:
        postgres.stop()
        ledger = Ledger(url)
        await ledger.start()
        assert ledger.problem is not None
        with pytest.raises(LedgerFailed):
            await ledger.record(make_record())
        postgres.start()
        await until_well(ledger)
        await ledger.record(make_record())
        await ledger.close()

    asyncio.run(scenario(parse_url(postgres.make_database(f"yet_{new_id()}"), tmp_path)))


def test_a_file_that_another_program_locks_is_written_once_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.ledger.database._BUSY_SECONDS", 0.2)

    async def scenario(url: URL) -> None:
        ledger = Ledger(url)
        await ledger.start()
        other = sqlite3.connect(str(url.database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerFailed, match="locked"):
            await ledger.record(make_record())
        other.execute("ROLLBACK")
        other.close()
        await until_well(ledger)
        await ledger.record(make_record())
        await ledger.close()

    asyncio.run(scenario(parse_url(None, tmp_path)))
    assert len(stored_ids(tmp_path)) == 1


def test_a_database_that_hangs_holds_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.ledger.ledger._STALLED_SECONDS", 0.2)
    hangs = threading.Event()

    async def scenario() -> None:
        ledger = Ledger(parse_url(None, tmp_path))
        ledger.on_commit(lambda rows, seconds: hangs.wait(30))
        await ledger.start()
        with pytest.raises(LedgerFailed, match="not answered"):
            await ledger.record(make_record())
        assert "not answered" in str(ledger.problem)
        hangs.set()
        await until_well(ledger)
        await ledger.record(make_record())
        await ledger.close()

    asyncio.run(scenario())
    assert len(stored_ids(tmp_path)) == 2


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    asked = ["-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if mount is None or unmount is None or subprocess.run([mount, *asked], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run([unmount, "--lazy", str(folder)], check=True)


def test_a_full_disk_loses_no_record_that_was_acknowledged(tmp_path: Path) -> None:
    async def scenario(folder: Path) -> None:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        ledger = Ledger(parse_url(None, folder))
        await ledger.start()
        acknowledged = []
        with pytest.raises(LedgerFailed, match="full"):
            for _ in range(10_000):
                record = make_record()
                await ledger.record(record)
                acknowledged.append(record)
        assert acknowledged
        with pytest.raises(LedgerFailed):
            ledger.check()
        ballast.unlink()
        await until_well(ledger)
        after = make_record()
        await ledger.record(after)
        assert [ledger.find(record.id) for record in acknowledged] == acknowledged
        assert ledger.find(after.id) == after
        await ledger.close()

    with small_disk(tmp_path / "disk") as folder:
        asyncio.run(scenario(folder))


def test_a_service_that_cannot_record_is_not_ready_until_it_can(
    bundle_folder: Path, tmp_path: Path, picture: bytes
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        before = [post(server, picture).json()["id"] for _ in range(3)]
        limit_files(server, 1)
        refused = post(server, picture)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:unispect:problem:ledger-failed"
        assert int(refused.headers["retry-after"]) > 0
        ready = server.client.get("/readyz")
        assert (ready.status_code, ready.json()["stage"]) == (503, "waiting for the ledger")
        assert "ledger" in ready.json()["detail"]
        assert server.client.get("/livez").status_code == 200
        assert "unispect_ready 0.0" in server.client.get("/metrics").text
        limit_files(server, resource.RLIM_INFINITY)
        server.wait_ready()
        after = post(server, picture).json()["id"]
        assert server.stop() == 0
    assert stored_ids(tmp_path / "data") >= {*before, after}


def post(server: RunningServer, picture: bytes):
    return server.client.post(URL_PATH, content=picture, headers=RAW)


def limit_files(server: RunningServer, size: int) -> None:
    """No file of the server's may grow beyond `size` bytes; as if the disk were full."""
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
