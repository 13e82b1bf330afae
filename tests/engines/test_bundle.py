"""A bundle loads whole and unaltered, or is refused with one sentence."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from engines import bundle as bundles
from engines.errors import BundleError
from tests.conftest import EPOCHS


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def edit(folder: Path, change: dict[str, object]) -> None:
    path = folder / bundles.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_loads_and_records_what_it_was_made_of(bundle_folder: Path) -> None:
    manifest = bundles.load(bundle_folder).manifest
    assert manifest.method == "stfpm"
    assert manifest.precision == "int8"
    assert set(manifest.files) == {bundles.MODEL, bundles.GOLDEN}
    assert manifest.data.held_out == {part.name: len(part.good_scores) for part in manifest.part_classes}
    assert manifest.quantization is not None
    assert manifest.quantization.float_layers == []
    assert len(manifest.quantization.quantized_layers) == 30
    assert manifest.teacher.weights == "procedural"
    assert {"torch", "onnx", "openvino"} <= manifest.libraries.keys()
    assert manifest.training["epochs"] == EPOCHS


def test_thresholds_are_those_of_the_good_scores(bundle_folder: Path) -> None:
    for part in bundles.load(bundle_folder).manifest.part_classes:
        above = sum(score > part.threshold for score in part.good_scores)
        assert above <= part.false_reject_rate * (len(part.good_scores) + 1)
        assert part.pixel_threshold <= part.threshold


@pytest.mark.parametrize("name", [bundles.MODEL, bundles.GOLDEN])
def test_altered_file_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} was altered"):
        bundles.load(copy)


def test_a_manifest_is_read_without_the_files_and_refused_where_it_was_altered(copy: Path) -> None:
    manifest = bundles.load(copy).manifest
    (copy / bundles.MODEL).write_bytes(b"something else")
    assert bundles.read_manifest(copy) == manifest
    edit(copy, {"version": "other"})
    with pytest.raises(BundleError, match=r"bundle\.json was altered"):
        bundles.read_manifest(copy)


def test_missing_file_is_refused(copy: Path) -> None:
    (copy / bundles.MODEL).unlink()
    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        bundles.load(copy)


def test_edited_threshold_is_refused(copy: Path) -> None:
    parts = json.loads((copy / bundles.MANIFEST).read_text())["part_classes"]
    parts[0]["threshold"] *= 2
    edit(copy, {"part_classes": parts})
    with pytest.raises(BundleError, match="altered"):
        bundles.load(copy)


@pytest.mark.parametrize("version", [2, 99, "1", None])
def test_other_schema_is_refused(copy: Path, version: object) -> None:
    edit(copy, {"schema_version": version})
    with pytest.raises(BundleError, match="schema version"):
        bundles.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '"bundle"', "{}", '{"schema_version": 1}'])
def test_malformed_manifest_is_refused_in_one_sentence(copy: Path, text: str) -> None:
    (copy / bundles.MANIFEST).write_text(text)
    with pytest.raises(BundleError) as caught:
        bundles.load(copy)
    assert "\n" not in str(caught.value)


def test_bundle_from_before_a_field_came_is_whole(copy: Path) -> None:
    path = copy / bundles.MANIFEST
    raw = json.loads(path.read_text())
    assert raw.pop("tiling") is None
    del raw["digest"]
    digest = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**raw, "digest": digest}))
    assert bundles.load(copy).manifest.tiling is None


def test_a_bundle_of_two_states_is_written_as_before_there_were_three(bundle_folder: Path) -> None:
    manifest = bundles.load(bundle_folder).manifest
    assert all(
        "review" not in part for part in json.loads((bundle_folder / bundles.MANIFEST).read_text())["part_classes"]
    )
    assert all(part.pass_limit == part.threshold for part in manifest.part_classes)


@pytest.mark.parametrize(("share", "holds"), [(0.5, True), (1.0, True), (1.01, False)])
def test_the_second_threshold_is_at_most_the_first(copy: Path, share: float, holds: bool) -> None:
    manifest = bundles.load(copy).manifest
    first, *rest = manifest.part_classes
    review = bundles.Review(rate=0.4, threshold=share * first.threshold)
    parts = [first.model_copy(update={"review": review}), *rest]
    bundles.save_manifest(copy, manifest.model_copy(update={"part_classes": parts}))
    if holds:
        assert bundles.load(copy).manifest.part_classes[0].pass_limit == share * first.threshold
    else:
        with pytest.raises(BundleError, match=f"sends parts of class {first.name} to review that fail"):
            bundles.load(copy)


@pytest.mark.parametrize("tiling", [{"height": 64, "width": 128}, {"height": 256, "width": 200, "overlap": 7}])
def test_tiles_that_do_not_fit_are_refused(copy: Path, tiling: dict[str, int]) -> None:
    manifest = bundles.load(copy).manifest.model_copy(update={"tiling": bundles.Tiling(**{"overlap": 0, **tiling})})
    (copy / bundles.MANIFEST).write_text(manifest.sealed().model_dump_json())
    with pytest.raises(BundleError, match=r"cannot be used: .*tile"):
        bundles.load(copy)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no bundle"):
        bundles.load(tmp_path / "nothing")


def test_file_outside_the_folder_is_refused(copy: Path) -> None:
    bundle = bundles.load(copy)
    outside = {**bundle.manifest.files, "../secret": bundles.FileRecord(size=1, sha256="0" * 64)}
    path = copy / bundles.MANIFEST
    path.write_text(bundle.manifest.model_copy(update={"files": outside}).sealed().model_dump_json())
    with pytest.raises(BundleError, match="outside its folder"):
        bundles.load(copy)
