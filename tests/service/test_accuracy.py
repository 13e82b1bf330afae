"""What `build-engines evaluate --record` writes is what the service reads; anything else is no record."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from build_engines.commands.measure import evaluate_bundle
from engines import bundle as bundles
from service.accuracy import Accuracy


def test_an_engine_tells_how_accurate_it_was_on_test_images(
    bundle_folder: Path, parts_folder: Path, tmp_path: Path, console: Console
) -> None:
    assert Accuracy.of(bundles.load(bundle_folder).manifest) is None
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "copy"))
    evaluate_bundle(copy, parts_folder, "openvino", None, None, 1, True, console)
    manifest = bundles.load(copy).manifest
    accuracy = Accuracy.of(manifest)
    assert accuracy is not None
    recorded = manifest.metrics["test"]
    assert isinstance(recorded, dict)
    assert accuracy.model_dump() == {name: recorded[name] for name in Accuracy.model_fields}
    assert accuracy.backend == "openvino"
    assert accuracy.image_auroc > 0.5


@pytest.mark.parametrize(
    "record", [None, "0.9", [], {}, {"backend": "openvino", "image_auroc": 2.0, "false_reject": 0.0, "miss": 0.0}]
)
def test_what_is_no_record_is_none(bundle_folder: Path, record: object) -> None:
    manifest = bundles.load(bundle_folder).manifest
    assert Accuracy.of(manifest.model_copy(update={"metrics": {"test": record}})) is None
