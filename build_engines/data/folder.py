"""Part images in MVTec AD layout: CLASS/train/good, CLASS/test/TYPE, CLASS/ground_truth/TYPE/NAME_mask.png."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from build_engines.errors import DataError
from engines.bundle import is_name
from engines.errors import ImageError
from engines.images import decode

GOOD = "good"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
# A student needs some variety, and a threshold some held-out scores.
FEWEST_TRAIN_IMAGES = 10
_ERRORS_SHOWN = 20


@dataclass(frozen=True)
class PartFolder:
    """One part class: sorted paths of its good training images."""

    name: str
    train: tuple[Path, ...]


@dataclass(frozen=True)
class TestImage:
    """One picture of the test set; `mask` is None for good parts and for defects without ground truth."""

    __test__ = False

    part_class: str
    defect: str
    path: Path
    mask: Path | None

    @property
    def is_good(self) -> bool:
        return self.defect == GOOD


def find_parts(root: Path, classes: Sequence[str] | None = None) -> list[PartFolder]:
    """The part classes of a data folder, by name.

    Args:
        root: the data folder.
        classes: which classes; None for all.

    Raises:
        DataError: no such folder or class, a class without train/good, or with too few images.
    """
    return [_part(folder) for folder in _class_folders(root, classes)]


def find_tests(root: Path, classes: Sequence[str]) -> list[TestImage]:
    """The test pictures of the named classes, sorted.

    Raises:
        DataError: a class without test folder, good or defective test images; a mask without an image.
    """
    found: list[TestImage] = []
    for folder in _class_folders(root, classes):
        images = [image for kind in _subfolders(folder / "test") for image in _tests_of(folder, kind)]
        if not any(image.is_good for image in images) or all(image.is_good for image in images):
            raise DataError(f"{folder / 'test'} needs a folder 'good' and a folder per defect, each with images.")
        found += images
    return found


def read_images(paths: Sequence[Path], height: int, width: int, what: str) -> NDArray[np.uint8]:
    """Decode pictures as serving does: uint8 [N, H, W, 3] RGB. Shows progress.

    Raises:
        DataError: lists every picture that cannot be read.
    """
    images = np.empty((len(paths), height, width, 3), np.uint8)
    broken: list[str] = []
    for index, path in enumerate(track(paths, f"Reading {what}")):
        try:
            images[index] = decode(path.read_bytes(), height, width).pixels
        except (ImageError, OSError) as error:
            broken.append(f"{path}: {error}")
    require_readable(broken, "images")
    return images


def require_readable(broken: Sequence[str], what: str) -> None:
    """Raises DataError with the first of the pictures that cannot be read, if there are any."""
    if broken:
        more = f"\n… and {len(broken) - _ERRORS_SHOWN} more" if len(broken) > _ERRORS_SHOWN else ""
        listed = "\n".join(broken[:_ERRORS_SHOWN])
        raise DataError(f"{len(broken)} {what} cannot be read; replace or remove them:\n{listed}{more}")


def read_mask(path: Path, height: int, width: int) -> NDArray[np.bool_]:
    """A ground-truth mask as bool [H, W]; anything above half grey is defect.

    Raises DataError where it cannot be read.
    """
    mask = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DataError(f"The mask {path} cannot be read; replace or remove it.")
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 127)


def fingerprint(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over relative names and contents, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _class_folders(root: Path, classes: Sequence[str] | None) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"There is no data folder {root}; give a folder in MVTec AD layout (CLASS/train/good/…).")
    folders = {folder.name: folder for folder in _subfolders(root)}
    if not folders:
        raise DataError(f"{root} holds no part classes; it needs a folder per class with train/good in it.")
    unknown = [name for name in classes or () if name not in folders]
    if unknown:
        raise DataError(f"{root} has no class {unknown[0]!r}; it has {', '.join(folders)}.")
    return [folders[name] for name in sorted(set(classes or folders))]


def _part(folder: Path) -> PartFolder:
    if not is_name(folder.name):
        raise DataError(
            f"The class name of {folder} may hold letters, digits, '.', '_' and '-' alone; rename the folder."
        )
    good = folder / "train" / GOOD
    if not good.is_dir():
        raise DataError(f"{good} is missing; put the good images of class {folder.name} there.")
    stray = [path for path in _subfolders(folder / "train") if path.name != GOOD]
    if stray:
        raise DataError(f"{stray[0]} does not belong there; training takes good images only, in {good}.")
    images = _images(good)
    if len(images) < FEWEST_TRAIN_IMAGES:
        raise DataError(f"{good} holds {len(images)} images; a class needs at least {FEWEST_TRAIN_IMAGES} good ones.")
    return PartFolder(folder.name, images)


def _tests_of(folder: Path, kind: Path) -> list[TestImage]:
    masks = folder / "ground_truth" / kind.name
    by_stem = {path.stem.removesuffix("_mask"): path for path in _images(masks)} if masks.is_dir() else {}
    images = _images(kind)
    orphan = by_stem.keys() - {path.stem for path in images}
    if orphan:
        raise DataError(
            f"The mask {by_stem[min(orphan)]} has no image {min(orphan)} in {kind}; add it or remove the mask."
        )
    return [TestImage(folder.name, kind.name, path, by_stem.get(path.stem)) for path in images]


def _images(folder: Path) -> tuple[Path, ...]:
    nested = _subfolders(folder)
    if nested:
        raise DataError(f"{nested[0]} is a folder among images; move its images up into {folder} or away.")
    return tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()))


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; a data folder holds CLASS/train/good and CLASS/test/TYPE.")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
