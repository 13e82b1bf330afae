"""`build-engines score`."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.table import Table

from build_engines.commands.compile import open_detector
from build_engines.commands.options import ArgumentError
from build_engines.commands.options import choose as choose_value
from build_engines.errors import ReinspectionError
from engines import bundle as bundles
from engines.backends import BackendName, choose
from engines.bundle import Bundle

if TYPE_CHECKING:
    from build_engines.reinspection.records import ScoringRecord

_SUFFIX = ".parquet"
_REASONS_SHOWN = 5


def score_images(
    source: Path,
    out: Path,
    engine: Path,
    against: Path | None,
    *,
    backend: str,
    ray: str | None,
    workers: int | None,
    console: Console,
) -> None:
    """Score an archive, and print what came of it; beside another engine, write what changed and a page too.

    Raises:
        ArgumentError: options that make no sense.
        ReinspectionError: Ray is not installed, or as `score_archive`.
        UnispectError, OSError: as `score_archive`.
    """
    if out.suffix != _SUFFIX:
        raise ArgumentError(f"--out {out} must end with {_SUFFIX}, which it will be.")
    choose_value("backend", backend, get_args(BackendName))
    missing = [name for name in ("ray", "pyarrow") if find_spec(name) is None]
    if missing:
        raise ReinspectionError(f"score needs {' and '.join(missing)}; pip install 'unispect[scale]'.")
    first = bundles.load(engine)
    second = None if against is None else bundles.load(against)
    if second is not None and second.manifest.digest == first.manifest.digest:
        raise ArgumentError(f"--against {against} is the same engine as --engine; give the one that serves now.")
    from build_engines.reinspection.archive import score_archive

    library = choose() if backend == "auto" else backend
    if library.startswith("tensorrt") and ray is None:
        _compile((engine, against), library, console)
    record = score_archive(source, out, first, second, library, address=ray, workers=workers, console=console)
    _print_summary(out, record, console)
    if second is not None:
        _print_comparison(source, out, record, second, first, console)


def _compile(folders: tuple[Path | None, ...], library: str, console: Console) -> None:
    """Make what a GPU needs before many workers ask for it at once."""
    for folder in folders:
        if folder is not None:
            open_detector(folder, library, 0, console).backend.close()


def _print_summary(out: Path, record: "ScoringRecord", console: Console) -> None:
    from build_engines.reinspection.summary import summarise

    summary = summarise(out)
    table = Table(
        "Part class", "Images", "Pass", "Review", "Fail", "Unknown part", "Median score", "Threshold",
        title=f"{record.asked.engine}, {record.asked.backend}",
    )  # fmt: skip
    for name, found in summary.classes.items():
        counts = (found.images, *(found.verdicts[verdict] for verdict in ("pass", "review", "fail")), found.unknown)
        table.add_row(name, *map(str, counts), f"{found.median:.4g}", f"{found.threshold:.4g}")
    if summary.classes:
        console.print(table)
    console.print(f"Scores: {out}, {record.images} images", highlight=False, soft_wrap=True)
    if summary.errors:
        console.print(f"{summary.errors} images could not be scored; column 'error' says why:", highlight=False)
        for reason, path in list(summary.examples.items())[:_REASONS_SHOWN]:
            console.print(f"  {path}: {reason}", highlight=False, markup=False, soft_wrap=True)


def _print_comparison(
    source: Path, out: Path, record: "ScoringRecord", against: Bundle, engine: Bundle, console: Console
) -> None:
    from build_engines.reinspection.comparison import compare, write_changed
    from build_engines.reinspection.listing import folder_of
    from build_engines.reinspection.page import changes, write_page

    comparison = compare(out)
    kinds = changes(comparison.total)
    table = Table(
        "Part class", "Images", "Fail before", "Fail now", *(" → ".join(kind) for kind in kinds),
        "Class changed", "Pearson", "Spearman", title=f"{record.asked.engine} beside {record.asked.against}",
    )  # fmt: skip
    for name, found in [*comparison.classes.items(), ("all", comparison.total)]:
        if name == "all":
            table.add_section()
        counts = (found.images, *found.judged("fail"), *(found.verdicts[kind] for kind in kinds), found.renamed)
        correlations = ("–" if value is None else f"{value:.3f}" for value in (found.pearson, found.spearman))
        table.add_row(name, *map(str, counts), *correlations)
    console.print(table)
    changed, page = out.with_suffix(f".changed{_SUFFIX}"), out.with_suffix(".html")
    write_changed(comparison, changed)
    with console.status("Drawing what changed"):
        write_page(page, record, comparison, folder_of(source), against, engine)
    console.print(
        f"The verdict of {comparison.total.changed} of {comparison.total.images} images changed: {changed}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Page: {page}", highlight=False, soft_wrap=True)
