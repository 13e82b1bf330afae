"""An engine with two thresholds: pass, review, fail."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import bundle as bundles
from engines.bundle import Manifest, Review
from engines.detector import Detector
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server
from tests.service.test_metrics import scrape, value

URL = "/v1/inspections"


@pytest.fixture(scope="module")
def three_states(bundle_folder: Path, pictures: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, with second thresholds below all scores of the pictures."""
    folder = Path(shutil.copytree(bundle_folder, tmp_path_factory.mktemp("bundles") / "three"))
    bundle = bundles.load(folder)
    detector = Detector.open(bundle, "openvino", threads=1)
    lowest = min(detector.inspect(data).score for data in pictures)
    parts = [
        part.model_copy(update={"review": Review(rate=0.9, threshold=min(0.9 * lowest, part.threshold))})
        for part in bundle.manifest.part_classes
    ]
    bundles.save_manifest(folder, bundle.manifest.model_copy(update={"part_classes": parts}))
    return folder


@pytest.fixture(scope="module")
def server(three_states: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(three_states, tmp_path_factory.mktemp("three")) as running:
        yield running


def test_what_would_pass_is_left_to_a_person(server: RunningServer, pictures: list[bytes], alien: bytes) -> None:
    answers = [server.client.post(URL, content=data, headers=RAW).json() for data in (*pictures, alien)]
    for answer in answers:
        assert answer["verdict"] == ("fail" if answer["score"] > answer["threshold"] else "review")
        assert answer["regions"]
    assert {answer["verdict"] for answer in answers} == {"review", "fail"}
    counted = value(scrape(server), "unispect_verdicts_total", verdict="review")
    assert counted == sum(answer["verdict"] == "review" for answer in answers)


def test_the_engine_tells_its_second_thresholds(server: RunningServer, three_states: Path, manifest: Manifest) -> None:
    told = server.client.get("/v1/engine").json()["part_classes"]
    written = bundles.load(three_states).manifest.part_classes
    assert [part["review_threshold"] for part in told] == [part.pass_limit for part in written]
    assert {part["review_rate"] for part in told} == {0.9}
    assert [part["threshold"] for part in told] == [part.threshold for part in manifest.part_classes]
