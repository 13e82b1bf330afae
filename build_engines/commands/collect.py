"""`build-engines collect`."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from build_engines.collecting import TEST_DEFECT, TEST_GOOD, TRAIN_GOOD, collect
from build_engines.data.folder import FEWEST_TRAIN_IMAGES
from build_engines.ledger import LedgerReader


def collect_images(ledger: str, data_dir: Path, out: Path, test_share: float, console: Console) -> None:
    """Copy reviewed images to a data folder, and print how many of each class it has of them.

    Raises LedgerError or DataError.
    """
    collected = collect(LedgerReader(ledger), data_dir, out, test_share)
    table = Table("Part class", "Good, to train", "Good, to test", "Defective", title=str(out))
    kinds = (TRAIN_GOOD, TEST_GOOD, TEST_DEFECT)
    names = sorted({name for name, _ in collected.counts})
    for name in names:
        table.add_row(name, *(str(collected.counts[name, kind]) for kind in kinds))
    console.print(table)
    if collected.missing:
        console.print(
            f"{len(collected.missing)} reviewed images are not kept by the service; its setting pictures says which "
            "are, pictures_days and pictures_quota_mb for how long."
        )
    if collected.altered:
        console.print(f"{len(collected.altered)} images were altered and left out, as {collected.altered[0]}.")
    few = [name for name in names if len(list((out / name / TRAIN_GOOD).glob("*"))) < FEWEST_TRAIN_IMAGES]
    if few:
        console.print(
            f"Training needs {FEWEST_TRAIN_IMAGES} good images of a class, and {', '.join(few)} has fewer; review more "
            "parts, or copy other images to them."
        )
