"""From the line to the next engine: inspect, review, collect, set thresholds anew."""

from pathlib import Path

import pytest

from build_engines.data.folder import find_parts
from engines import bundle as bundles
from engines.bundle import Manifest
from tests.build_engines.test_cli import call
from tests.service.conftest import RAW
from tests.service.running import running_server


def test_reviews_become_images_to_train_with_and_thresholds(
    bundle_folder: Path, parts_folder: Path, manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, images = {}, sorted(parts_folder.glob("*/train/good/*.png"))
    # The smallest disk that tests run on has less than the reserve.
    with running_server(bundle_folder, tmp_path, "--pictures", "all", "--pictures-reserve-mb", "0") as server:
        for path in images:
            answer = server.client.post(
                "/v1/inspections", params={"part_class": path.parts[-4]}, content=path.read_bytes(), headers=RAW
            ).json()
            review = {"label": "ok"}
            assert server.client.post(f"/v1/inspections/{answer['id']}/review", json=review).status_code == 201
            answers[path] = answer
    ledger, out = tmp_path / "data" / "ledger.sqlite3", tmp_path / "parts"
    arguments = ("--data-dir", tmp_path / "data", "--out", out, "--test-share", 0)
    assert call(capsys, "collect", ledger, *arguments)[0] == 0
    assert {part.name: len(part.train) for part in find_parts(out)} == {
        part.name: sum(answer["part_class"] == part.name for answer in answers.values())
        for part in manifest.part_classes
    }
    assert {path.read_bytes() for path in out.rglob("*.png")} == {path.read_bytes() for path in images}
    code, _, error = call(capsys, "rethreshold", bundle_folder, "--from", ledger, "--out", tmp_path / "2")
    assert (code, error) == (0, "")
    made = bundles.load(tmp_path / "2").manifest
    assert made.version == "2"
    for part in made.part_classes:
        scores = [answer["score"] for answer in answers.values() if answer["part_class"] == part.name]
        assert part.good_scores == sorted(scores)
        assert sum(score > part.threshold for score in scores) <= part.false_reject_rate * (len(scores) + 1)
