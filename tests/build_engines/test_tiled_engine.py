"""An engine that works on tiles, from training to verdict."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from build_engines import run
from build_engines.data.synthetic import generate
from build_engines.errors import RunError
from build_engines.evaluation import evaluate
from engines import bundle as bundles
from engines.detector import Detector
from tests.conftest import quantize_small, train_small


@pytest.fixture(scope="module")
def detector(tiled_bundle_folder: Path) -> Detector:
    return Detector.open(bundles.load(tiled_bundle_folder), "openvino", threads=1)


def test_thresholds_come_from_whole_images(detector: Detector, tiled_run_folder: Path) -> None:
    record = run.load_finished(tiled_run_folder)
    for split, part in zip(record.split, detector.bundle.manifest.part_classes, strict=True):
        scores = [detector.inspect((record.data_folder / name).read_bytes()).score for name in split.held_out]
        assert sorted(scores) == pytest.approx(part.good_scores, rel=1e-5)


def test_the_golden_image_is_a_whole_one_and_scores_as_built(detector: Detector) -> None:
    golden = detector.bundle.manifest.golden
    assert cv2.imread(str(detector.bundle.golden_path)).shape == (128, 128, 3)
    assert detector.check_golden() == pytest.approx(golden.score, rel=1e-4)


def test_int8_is_compared_with_fp32_on_stitched_maps(detector: Detector) -> None:
    figures = detector.bundle.manifest.metrics["against_fp32"]
    assert isinstance(figures, dict)
    assert 0 < figures["map_error_relative"] < 0.3


def test_evaluation_finds_classes_and_places(detector: Detector, parts_folder: Path) -> None:
    mean = evaluate(detector, parts_folder).mean()
    assert mean["recognition"] == 1.0
    assert mean["pixel_auroc"] > 0.75


def test_a_part_that_fails_shows_where_in_the_original_picture(detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = cv2.imencode(".png", cv2.resize(noise, (900, 600), interpolation=cv2.INTER_NEAREST))[1].tobytes()
    found = detector.inspect(picture)
    assert found.verdict == "fail"
    assert found.unknown_part
    assert found.regions[0].peak == pytest.approx(found.score)
    for region in found.regions:
        assert region.x >= 0 and region.x + region.width <= 900
        assert region.y >= 0 and region.y + region.height <= 600


def test_a_tiled_run_resumes(tiled_run_folder: Path, parts_folder: Path, tmp_path: Path, console: Console) -> None:
    folder = Path(shutil.copytree(tiled_run_folder, tmp_path / "run"))
    train_small(parts_folder, folder, console, epochs=2, tile=64, overlap=16, resume=True)
    with pytest.raises(RunError, match="began with other settings"):
        train_small(parts_folder, folder, console, epochs=2, tile=64, overlap=0, resume=True)


@pytest.mark.slow
def test_a_defect_that_resizing_would_lose_is_found(tmp_path: Path, console: Console) -> None:
    """Specks of 9 pixels in 256, which are 2 in the 64 that the network takes."""
    data = tmp_path / "parts"
    generate(data, classes=1, seed=5, train=20, test_good=12, test_per_defect=0)
    for number, path in enumerate(sorted(data.glob("*/test/good/*.png"))):
        speck(path, path.parents[1] / "speck" / path.name, np.random.default_rng(number))

    def auroc(name: str, train: Callable[[Path], None]) -> float:
        train(tmp_path / name)
        engine = quantize_small(tmp_path / name, tmp_path / f"{name}-engine", "int8", console)
        return evaluate(Detector.open(bundles.load(engine)), data).mean()["image_auroc"] or 0.0

    resized = auroc("resized", lambda out: train_small(data, out, console, epochs=60, image_size=64))
    tiled = auroc("tiled", lambda out: train_small(data, out, console, epochs=8, image_size=256, tile=64, overlap=16))
    assert tiled > 0.75
    assert tiled - resized > 0.15


def speck(good: Path, out: Path, generator: np.random.Generator) -> None:
    """A copy of a picture with a small inverted disc."""
    image = cv2.imread(str(good))
    mask = np.zeros(image.shape[:2], np.uint8)
    row, column = generator.integers(70, 186, 2).tolist()
    cv2.circle(mask, (column, row), 4, 255, -1)
    image[mask > 0] = 255 - image[mask > 0]
    out.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(out), image)
