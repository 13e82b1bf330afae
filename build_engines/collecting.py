"""Reviewed images of an inspection service as a data folder in MVTec AD layout, for the next training."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import track

from build_engines.data.folder import GOOD, SUFFIXES
from build_engines.errors import DataError
from build_engines.ledger import DEFECT, LedgerReader, Reviewed
from engines.files import write_atomic

TRAIN_GOOD, TEST_GOOD, TEST_DEFECT = Path("train", GOOD), Path("test", GOOD), Path("test", DEFECT)
_KINDS = (TRAIN_GOOD, TEST_GOOD, TEST_DEFECT)
_STEM = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Collected:
    """What was collected.

    Attributes:
        counts: images now in the folder, by part class and kind, one of `TRAIN_GOOD`, `TEST_GOOD` and `TEST_DEFECT`.
        missing: images that the service does not keep, or no more.
        altered: images whose file is not the one that was inspected; they are left out.
    """

    counts: Counter[tuple[str, Path]] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    altered: list[Path] = field(default_factory=list)


def collect(ledger: LedgerReader, data_dir: Path, out: Path, test_share: float) -> Collected:
    """Copy the images that were reviewed to `out`, which may hold others; what is there already is not copied again.

    An image is named after its SHA-256. Where its latest review, or the share, says otherwise than at an earlier call,
    it moves. Whether a good image is for testing depends on its digest alone, so that none that an engine was trained
    with ever comes to test a later one. Shows progress.

    Args:
        data_dir: the service's data folder, with the pictures that it kept.
        test_share: of the good images, in [0, 1].

    Raises:
        LedgerError: see `LedgerReader`.
        DataError: no image was reviewed, or none of them is kept.
    """
    reviewed = ledger.reviewed()
    if not reviewed:
        raise DataError(f"No inspection in {ledger.name} was reviewed; review some on the page, or by the API.")
    present = _present(out)
    collected = Collected()
    for one in track(reviewed, "Reviewed images"):
        kind = _kind(one, test_share)
        sources = [*present.get(one.image_sha256, ()), *_kept(data_dir, one.image_sha256)]
        if not sources:
            collected.missing.append(one.image_sha256)
            continue
        target = out / one.part_class / kind / f"{one.image_sha256}{sources[0].suffix}"
        if target not in sources:
            data = sources[0].read_bytes()
            if hashlib.sha256(data).hexdigest() != one.image_sha256:
                collected.altered.append(sources[0])
                continue
            write_atomic(target, data)
        for old in present.get(one.image_sha256, ()):
            if old != target:
                old.unlink()
        collected.counts[one.part_class, kind] += 1
    if not collected.counts:
        raise DataError(
            f"None of the {len(reviewed)} reviewed images is in {data_dir / 'pictures'}; give the service's data "
            "folder, and let the service keep pictures."
        )
    return collected


def _kind(one: Reviewed, test_share: float) -> Path:
    if one.label == DEFECT:
        return TEST_DEFECT
    return TEST_GOOD if int(one.image_sha256[:8], 16) < test_share * 2**32 else TRAIN_GOOD


def _kept(data_dir: Path, sha256: str) -> list[Path]:
    return _images((data_dir / "pictures" / sha256[:2]).glob(f"{sha256}.*"))


def _present(out: Path) -> dict[str, list[Path]]:
    """The images in the folder that a call before this one collected, by digest."""
    present: dict[str, list[Path]] = {}
    for kind in _KINDS:
        for path in _images(out.glob(f"*/{kind}/*")):
            if _STEM.fullmatch(path.stem):
                present.setdefault(path.stem, []).append(path)
    return present


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix in SUFFIXES and path.is_file())
