"""Several services with one database, as a plant's devices have it."""

from contextlib import ExitStack
from pathlib import Path

from tests.service.conftest import RAW
from tests.service.ledger.postgres import Postgres
from tests.service.running import running_server

URL = "/v1/inspections"
STATIONS = ("hall 1", "hall 2", "hall 3")


def test_services_that_start_together_share_one_history(
    postgres: Postgres, bundle_folder: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    database = postgres.make_database("fleet")
    with ExitStack() as stack:
        # All at once: whoever comes first makes the tables, and none fails.
        servers = {
            station: stack.enter_context(
                running_server(bundle_folder, tmp_path / station, "--ledger", database, wait=False)
            )
            for station in STATIONS
        }
        for server in servers.values():
            server.wait_ready()
        ids = {
            server.client.post(URL, params={"station": station}, content=picture, headers=RAW).json()["id"]
            for station, server in servers.items()
            for picture in pictures[:3]
        }
        assert len(ids) == 3 * len(STATIONS)
        for server in servers.values():
            told = server.client.get(URL).json()["inspections"]
            assert {one["id"] for one in told} == ids
            assert server.client.get("/v1/statistics").json()["inspections"] == len(ids)
            for station in STATIONS:
                filtered = server.client.get(URL, params={"station": station}).json()["inspections"]
                assert {one["station"] for one in filtered} == {station}
                assert len(filtered) == 3
