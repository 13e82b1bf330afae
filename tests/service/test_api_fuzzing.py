"""Whatever the API's own description allows, and what it does not, never makes the service fail."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server

# Not for lack of care but by design: they say that the service is not ready, or stops.
SHEDDING = {503, 504}
EXAMPLES, MANY_EXAMPLES = 12, 400


@schemathesis.serializer("application/zip", "image/*")
def as_bytes(_: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@pytest.fixture(scope="module")
def fuzzed(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: what is tried may change its engines and its statistics."""
    with running_server(bundle_folder, tmp_path_factory.mktemp("fuzzed"), "--body-seconds", "2") as running:
        yield running


def fuzz(server: RunningServer, alien: bytes, examples: int) -> int:
    """Try every operation. Returns how many requests were sent; raises AssertionError where one made it fail."""
    engine = server.client.get("/v1/engine").json()
    inspected = server.client.post("/v1/inspections", content=alien, headers=RAW).json()["id"]
    # What is made up is never there: every other request asks for what is.
    there = {"id": inspected, "name": engine["name"], "model": engine["name"], "version": engine["version"]}
    logging.getLogger("hypothesis").setLevel(logging.ERROR)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    failed: list[str] = []
    sent = 0
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        # It answers for as long as the client listens.
        if operation.path == "/v1/inspections/stream":
            continue
        modes = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=modes, known=st.booleans())
        def try_it(case: schemathesis.Case, known: bool) -> None:
            nonlocal sent
            sent += 1
            if known:
                case.path_parameters = {name: there.get(name, value) for name, value in case.path_parameters.items()}
            response = case.call(timeout=30)
            if response.status_code >= 500 and response.status_code not in SHEDDING:
                failed.append(f"{response.status_code} {case.as_curl_command()}")

        try_it()
    assert server.process.poll() is None
    assert not failed, "\n".join(failed[:10])
    assert "Traceback" not in server.log.read_text()
    return sent


def test_no_request_that_is_made_up_is_an_error_of_the_service(fuzzed: RunningServer, alien: bytes) -> None:
    assert fuzz(fuzzed, alien, EXAMPLES) > 150


@pytest.mark.slow
def test_no_request_of_many_that_are_made_up_is_an_error_of_the_service(fuzzed: RunningServer, alien: bytes) -> None:
    before = fuzzed.memory()
    assert fuzz(fuzzed, alien, MANY_EXAMPLES) > 5000
    assert fuzzed.memory() - before < 128 * 2**20
