"""`build-engines rethreshold`."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from build_engines.commands.inspect import show_bundle
from build_engines.commands.options import ArgumentError, check_bundle_folder, check_name
from build_engines.ledger import LedgerReader
from build_engines.rethresholding import Rates, rethreshold
from engines import bundle as bundles


def rethreshold_bundle(
    folder: Path,
    ledger: str | None,
    out: Path,
    rates: Rates,
    version: str | None,
    console: Console,
) -> None:
    """Write a bundle with other thresholds, and show it beside what it was made from.

    Args:
        version: None means the bundle's plus one, where that is a number.

    Raises ArgumentError, BundleError, LedgerError or ScoringError.
    """
    if ledger is None and rates == Rates():
        raise ArgumentError("There is nothing to change; give --from, --false-reject or --review-rate.")
    source = bundles.load(folder)
    named = version or _next(source.manifest.version)
    check_name("version", named)
    if out.resolve() == folder.resolve():
        raise ArgumentError(f"{out} is the bundle itself, which a service may be serving; give a new folder as --out.")
    check_bundle_folder(out)
    reader = None if ledger is None else LedgerReader(ledger)
    bundle, outcomes = rethreshold(source, reader, rates, out, named)
    if reader is not None:
        table = Table("Part class", "Confirmed", "Used", "Threshold before", "Threshold")
        for before, after in zip(source.manifest.part_classes, bundle.manifest.part_classes, strict=True):
            outcome = outcomes[before.name]
            counts = (str(outcome.confirmed), str(outcome.used))
            table.add_row(before.name, *counts, f"{before.threshold:.4g}", f"{after.threshold:.4g}")
        console.print(table)
        for name, outcome in outcomes.items():
            if outcome.kept is not None:
                console.print(f"{name} keeps the good scores that it had: {outcome.kept}", highlight=False)
    show_bundle(bundle.folder, console)


def _next(version: str) -> str:
    try:
        return str(int(version) + 1)
    except ValueError:
        raise ArgumentError(f"The bundle's version {version!r} is no number; give the new one as --version.") from None
