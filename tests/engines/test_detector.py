"""Bundle, backend and judge together."""

import json
from pathlib import Path

import pytest

from engines import bundle as bundles
from engines.detector import Detector
from engines.errors import ScoringError, UnknownPartClass


@pytest.fixture(scope="module")
def detector(bundle_folder: Path) -> Detector:
    return Detector.open(bundles.load(bundle_folder), "openvino", threads=1)


def test_recognises_the_part_class(detector: Detector, parts_folder: Path) -> None:
    for path in parts_folder.glob("*/test/good/*.png"):
        inspection = detector.inspect(path.read_bytes())
        assert inspection.part_class == path.parts[-4]
        assert inspection.part_class_source == "recognised"


def test_takes_the_part_class_it_is_given(detector: Detector, parts_folder: Path) -> None:
    path = next(parts_folder.glob("*/test/good/*.png"))
    other = next(p.name for p in detector.bundle.manifest.part_classes if p.name != path.parts[-4])
    inspection = detector.inspect(path.read_bytes(), other)
    assert (inspection.part_class, inspection.part_class_source) == (other, "given")
    assert inspection.unknown_part


def test_refuses_a_part_class_it_does_not_know(detector: Detector, parts_folder: Path) -> None:
    with pytest.raises(UnknownPartClass, match="no part class 'nut'"):
        detector.inspect(next(parts_folder.glob("*/test/good/*.png")).read_bytes(), "nut")


def test_verdict_follows_score_and_threshold(detector: Detector, parts_folder: Path) -> None:
    verdicts = set()
    for path in parts_folder.glob("*/test/*/*.png"):
        found = detector.inspect(path.read_bytes())
        verdicts.add(found.verdict)
        assert (found.verdict == "fail") == (found.score > found.threshold) == bool(found.regions)
        assert 0 < found.p_value <= 1
    assert verdicts == {"pass", "fail"}


def test_golden_image_scores_as_built(detector: Detector) -> None:
    golden = detector.bundle.manifest.golden
    assert detector.check_golden() == pytest.approx(golden.score, rel=golden.tolerance)


def test_golden_image_with_another_score_is_refused(detector: Detector) -> None:
    manifest = json.loads(detector.bundle.manifest.model_dump_json())
    manifest["golden"]["score"] *= 2
    altered = bundles.Bundle(folder=detector.bundle.folder, manifest=bundles.Manifest.model_validate(manifest))
    with pytest.raises(ScoringError, match="golden image scores"):
        Detector(altered, detector.backend).check_golden()
