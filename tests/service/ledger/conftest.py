from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from service.ids import new_id
from service.ledger.database import parse_url
from tests.service.ledger.postgres import Postgres, running_postgres
from tests.service.running import RunningServer, running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def recording_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `recording_server`."""
    return tmp_path_factory.mktemp("recording") / "data"


@pytest.fixture(scope="session")
def recording_server(bundle_folder: Path, recording_data: Path) -> Iterator[RunningServer]:
    with running_server(bundle_folder, recording_data.parent) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return parse_url(None, tmp_path)
    server: Postgres = request.getfixturevalue("postgres")
    return parse_url(server.make_database(f"ledger_{new_id()}"), tmp_path)
