"""Data folders are read as MVTec AD lays them out; what is wrong is named by its path."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from build_engines.data.folder import find_parts, find_tests, fingerprint, read_images, read_mask
from build_engines.errors import DataError


@pytest.fixture
def data(parts_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parts_folder, tmp_path / "parts"))


@pytest.fixture
def first(data: Path) -> Path:
    return min(data.iterdir())


def test_finds_classes_images_and_masks(data: Path) -> None:
    parts = find_parts(data)
    assert [part.name for part in parts] == sorted(path.name for path in data.iterdir())
    assert all(len(part.train) == 30 for part in parts)
    tests = find_tests(data, [part.name for part in parts])
    assert all((test.mask is None) == test.is_good for test in tests)
    masks = [read_mask(test.mask, 128, 128) for test in tests if test.mask]
    assert all(mask.shape == (128, 128) and mask.any() for mask in masks)


def test_takes_the_named_classes_only(data: Path, first: Path) -> None:
    assert [part.name for part in find_parts(data, [first.name])] == [first.name]
    with pytest.raises(DataError, match="no class 'nut'"):
        find_parts(data, ["nut"])


def test_missing_folders_are_named(data: Path, first: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no data folder"):
        find_parts(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no part classes"):
        find_parts(tmp_path / "empty")
    shutil.rmtree(first / "train" / "good")
    with pytest.raises(DataError, match=rf"{first.name}/train/good is missing"):
        find_parts(data)


def test_defects_among_training_images_are_refused(data: Path, first: Path) -> None:
    (first / "train" / "scratch").mkdir()
    with pytest.raises(DataError, match="train/scratch does not belong there"):
        find_parts(data)


def test_nested_folder_is_named(data: Path, first: Path) -> None:
    (first / "train" / "good" / "more").mkdir()
    with pytest.raises(DataError, match="good/more is a folder among images"):
        find_parts(data)


def test_class_with_too_few_images_is_refused(data: Path, first: Path) -> None:
    for path in sorted((first / "train" / "good").iterdir())[5:]:
        path.unlink()
    with pytest.raises(DataError, match="holds 5 images; a class needs at least 10"):
        find_parts(data)


def test_class_name_that_no_bundle_may_hold_is_refused(data: Path, first: Path) -> None:
    first.rename(first.with_name("left part"))
    with pytest.raises(DataError, match="rename the folder"):
        find_parts(data)


def test_mask_without_image_is_named(data: Path, first: Path) -> None:
    mask = next(first.glob("ground_truth/*/*.png"))
    shutil.copy(mask, mask.with_name("999_mask.png"))
    with pytest.raises(DataError, match=r"999_mask\.png has no image 999"):
        find_tests(data, [first.name])


def test_unreadable_images_are_listed_together(data: Path) -> None:
    paths = find_parts(data)[0].train
    paths[2].write_bytes(b"")
    paths[7].write_bytes(paths[7].read_bytes()[:200])
    with pytest.raises(DataError, match="2 images cannot be read") as caught:
        read_images(paths, 64, 64, "images")
    assert str(paths[2]) in str(caught.value)
    assert str(paths[7]) in str(caught.value)


def test_images_are_those_that_serving_decodes(data: Path) -> None:
    from engines.images import decode

    paths = find_parts(data)[0].train[:3]
    for path, image in zip(paths, read_images(paths, 96, 80, "images"), strict=True):
        np.testing.assert_array_equal(image, decode(path.read_bytes(), 96, 80).pixels)


def test_fingerprint_sees_content_and_name(data: Path) -> None:
    paths = list(find_parts(data)[0].train)
    before = fingerprint(data, paths)
    assert fingerprint(data, reversed(paths)) == before
    paths[0].write_bytes(paths[1].read_bytes())
    assert fingerprint(data, paths) != before
