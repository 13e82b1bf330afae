"""What a worker finds in a chunk is what the engine says of each image, and an image that is broken costs no other."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_engines.reinspection.columns import AGAINST
from build_engines.reinspection.listing import ArchiveImage
from build_engines.reinspection.scorer import EngineSource
from build_engines.reinspection.witness import Attempt, Witness
from build_engines.reinspection.worker import ChunkScorer, chunk_row
from engines import bundle as bundles
from engines.backends import RawResult
from engines.detector import Detector


def source_of(folder: Path, prefix: str = "") -> EngineSource:
    return EngineSource(folder, bundles.load(folder).manifest.digest, prefix)


def with_threshold(bundle: Path, folder: Path, factor: float) -> Path:
    """A version of the bundle whose thresholds are other ones."""
    copy = Path(shutil.copytree(bundle, folder))
    manifest = bundles.load(copy).manifest
    parts = [
        part.model_copy(update={"threshold": part.threshold * factor, "pixel_threshold": part.pixel_threshold * factor})
        for part in manifest.part_classes
    ]
    bundles.save_manifest(copy, manifest.model_copy(update={"part_classes": parts, "version": "2"}))
    return copy


def answer_of(scorer: ChunkScorer, images: list[ArchiveImage]) -> dict[str, Any]:
    row = chunk_row(7, images)
    assert json.loads(json.dumps(row)) == row
    answer = scorer(row)
    assert answer["chunk"] == 7
    return answer


def rows_of(scorer: ChunkScorer, images: list[ArchiveImage]) -> list[dict[str, Any]]:
    answer = answer_of(scorer, images)
    assert answer["failure"] == ""
    rows = pq.read_table(pa.BufferReader(answer["part"])).to_pylist()
    assert answer["images"] == len(rows)
    return rows


def test_findings_are_those_of_the_engine(bundle_folder: Path, parts_folder: Path) -> None:
    paths = sorted(parts_folder.glob("*/test/*/*.png"))[::3]
    scorer = ChunkScorer(parts_folder, [source_of(bundle_folder)], "openvino", 1, Witness())
    rows = rows_of(scorer, [ArchiveImage(str(path.relative_to(parts_folder))) for path in paths])
    detector = Detector.open(bundles.load(bundle_folder), "openvino", 1)
    assert {row["verdict"] for row in rows} == {"pass", "fail"}
    for path, row in zip(paths, rows, strict=True):
        found = detector.inspect(path.read_bytes())
        assert row["path"] == str(path.relative_to(parts_folder))
        for name in ("score", "threshold", "verdict", "p_value", "part_class", "part_class_source", "unknown_part"):
            assert row[name] == getattr(found, name)
        assert [region["peak"] for region in row["regions"]] == [region.peak for region in found.regions]
        assert row["error"] is None


def test_images_that_cannot_be_scored_say_why(bundle_folder: Path, parts_folder: Path, tmp_path: Path) -> None:
    good = next(parts_folder.glob("*/test/good/*.png"))
    shutil.copy(good, tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "letter.png").write_text("dear")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "huge.tif").open("wb") as file:
        file.truncate(2**40)
    names = ["cut.png", "letter.png", "good.png", "empty.png", "folder.png", "pipe.png", "huge.tif", "gone.png"]
    images = [*map(ArchiveImage, names), ArchiveImage("good.png", "sprocket"), ArchiveImage(str(good))]
    scorer = ChunkScorer(tmp_path, [source_of(bundle_folder)], "openvino", 1, Witness())
    assert answer_of(scorer, images)["errors"] == 8
    rows = rows_of(scorer, images)
    said = {row["path"]: row["error"] for row in rows if row["path"] not in ("good.png", str(good))}
    assert "truncated" in said.pop("cut.png")
    assert "has 1099511627776 bytes" in said.pop("huge.tif")
    assert said == {
        "letter.png": "The bytes are not a picture; send a JPEG, PNG, BMP, WebP or TIFF file.",
        "empty.png": "The image is empty; send the bytes of a JPEG, PNG, BMP, WebP or TIFF file.",
        "folder.png": "It is no file.",
        "pipe.png": "It is no file.",
        "gone.png": "No such file or directory.",
    }
    assert "There is no part class 'sprocket'" in rows[8]["error"]
    assert rows[2]["score"] == rows[9]["score"] > 0
    assert all(row["score"] is None for row in rows if row["error"])


def test_a_named_part_class_is_taken(bundle_folder: Path, parts_folder: Path) -> None:
    first, second = sorted(folder.name for folder in parts_folder.iterdir())
    name = str(next((parts_folder / first / "test" / "good").iterdir()).relative_to(parts_folder))
    scorer = ChunkScorer(parts_folder, [source_of(bundle_folder)], "openvino", 1, Witness())
    recognised, named = rows_of(scorer, [ArchiveImage(name), ArchiveImage(name, second)])
    assert (recognised["part_class"], recognised["part_class_source"]) == (first, "recognised")
    assert (named["part_class"], named["part_class_source"]) == (second, "given")


def test_two_engines_are_told_apart(bundle_folder: Path, float_bundle_folder: Path, parts_folder: Path) -> None:
    image = next(parts_folder.glob("*/test/good/*.png"))
    sources = [source_of(bundle_folder), source_of(float_bundle_folder, AGAINST)]
    (row,) = rows_of(ChunkScorer(parts_folder, sources, "openvino", 1, Witness()), [ArchiveImage(str(image))])
    for folder, prefix in ((bundle_folder, ""), (float_bundle_folder, AGAINST)):
        found = Detector.open(bundles.load(folder), "openvino", 1).inspect(image.read_bytes())
        assert row[f"{prefix}score"] == found.score
    assert row["score"] != row["against_score"]


def test_engines_of_one_network_compute_it_once(
    bundle_folder: Path, parts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = with_threshold(bundle_folder, tmp_path / "strict", 0.1)
    scorer = ChunkScorer(parts_folder, [source_of(strict), source_of(bundle_folder, AGAINST)], "openvino", 1, Witness())
    images = [ArchiveImage(str(path)) for path in sorted(parts_folder.glob("*/test/good/*.png"))[:4]]
    rows_of(scorer, images)
    calls: list[int] = []
    infer = Detector.infer

    def counting(self: Detector, pictures: Any) -> RawResult:
        calls.append(len(pictures))
        return infer(self, pictures)

    monkeypatch.setattr(Detector, "infer", counting)
    rows = rows_of(scorer, images)
    assert calls == [1, 1, 1, 1]
    assert all(row["score"] == row["against_score"] for row in rows)
    assert all(row["threshold"] == pytest.approx(0.1 * row["against_threshold"]) for row in rows)
    assert [row["verdict"] for row in rows] != [row["against_verdict"] for row in rows]


def test_a_backend_that_takes_batches_gets_them(
    bundle_folder: Path, parts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.backends.openvino import OpenVinoBackend

    good = sorted(parts_folder.glob("*/test/good/*.png"))[:7]
    (tmp_path / "broken.png").touch()
    images = [ArchiveImage(str(path)) for path in (*good[:2], tmp_path / "broken.png", *good[2:])]
    one_by_one = rows_of(ChunkScorer(parts_folder, [source_of(bundle_folder)], "openvino", 2, Witness()), images)
    monkeypatch.setattr(OpenVinoBackend, "largest_batch", 4)
    run, sizes = OpenVinoBackend.run, []

    def noting(self: OpenVinoBackend, batch: Any) -> RawResult:
        sizes.append(len(batch))
        return run(self, batch)

    monkeypatch.setattr(OpenVinoBackend, "run", noting)
    together = rows_of(ChunkScorer(parts_folder, [source_of(bundle_folder)], "openvino", 2, Witness()), images)
    assert sizes == [1, 3, 4]
    assert [row["path"] for row in together] == [image.name for image in images]
    assert together[2] == one_by_one[2]
    for row, alone in zip(together, one_by_one, strict=True):
        assert row["score"] == (alone["score"] and pytest.approx(alone["score"], rel=1e-5))


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_an_engine_that_cannot_be_opened_is_said_without_an_exception(
    bundle_folder: Path, parts_folder: Path, tmp_path: Path, damage: str
) -> None:
    source = source_of(bundle_folder)
    other = tmp_path / "engine" if damage == "missing" else with_threshold(bundle_folder, tmp_path / "engine", 2.0)
    scorer = ChunkScorer(parts_folder, [EngineSource(other, source.digest, "")], "openvino", 1, Witness())
    answer = answer_of(scorer, [ArchiveImage("a.png")])
    expected = "There is no bundle in" if damage == "missing" else "is not the same bundle on all nodes"
    assert expected in answer["failure"]
    assert answer["part"] == b""


def test_a_worker_needs_no_torch() -> None:
    script = "import sys, build_engines.reinspection.worker; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_what_dies_twice_at_an_image_reads_it_no_more(bundle_folder: Path, parts_folder: Path) -> None:
    """Three workers of one chunk: the first two die without a word, as the witness sees it."""
    paths = [str(path) for path in sorted(parts_folder.glob("*/test/good/*.png"))[:3]]
    images = [ArchiveImage(path) for path in paths]
    witness = Witness()
    assert witness.begin(7) == Attempt(is_careful=False, deadly=frozenset(), is_hopeless=False)
    for _ in range(2):
        assert witness.begin(7).is_careful
        witness.reached(7, 0)
        witness.reached(7, 1)
    rows = rows_of(ChunkScorer(parts_folder, [source_of(bundle_folder)], "openvino", 1, witness), images)
    assert [row["error"] for row in rows] == [None, "The process that read it died, twice.", None]
    assert rows[2]["score"] > 0


def test_a_chunk_whose_workers_die_anywhere_is_given_up(bundle_folder: Path, parts_folder: Path) -> None:
    witness = Witness()
    for index in range(5):
        assert not witness.begin(7).is_hopeless
        witness.reached(7, index)
    scorer = ChunkScorer(parts_folder, [source_of(bundle_folder)], "openvino", 1, witness)
    answer = answer_of(scorer, [ArchiveImage("a.png"), ArchiveImage("b.png")])
    assert "died again and again between a.png and b.png" in answer["failure"]
    assert not witness.begin(8).is_careful
