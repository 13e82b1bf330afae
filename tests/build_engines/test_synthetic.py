"""Synthetic parts: the same bytes from the same seed, with defects where the masks say."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from build_engines.data.folder import find_parts, find_tests
from build_engines.data.synthetic import generate
from build_engines.errors import DataError

SMALL = {"classes": 2, "train": 10, "test_good": 2, "test_per_defect": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate(tmp_path / name, seed=seed, **SMALL)
    first, second, third = (contents(tmp_path / name) for name in "abc")
    assert first == second
    assert first.keys() == third.keys()
    assert not set(first.values()) & {value for name, value in third.items() if "mask" not in name}


def test_layout_is_what_training_and_evaluation_read(tmp_path: Path) -> None:
    generate(tmp_path / "parts", classes=6, train=10, test_good=1, test_per_defect=1)
    parts = find_parts(tmp_path / "parts")
    assert len(parts) == 6
    tests = find_tests(tmp_path / "parts", [part.name for part in parts])
    assert {test.defect for test in tests} == {"good", "scratch", "hole", "stain", "missing_feature"}
    assert all(test.mask for test in tests if not test.is_good)


def test_masks_are_small_and_not_empty(parts_folder: Path) -> None:
    for path in parts_folder.glob("*/ground_truth/*/*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert set(np.unique(mask)) == {0, 255}
        assert 0.0001 < (mask > 0).mean() < 0.25, path


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError):
        generate(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
