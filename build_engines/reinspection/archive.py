"""An archive of images through an engine, or two, into one Parquet file."""

from pathlib import Path

from rich.console import Console

from build_engines.errors import ReinspectionError
from build_engines.reinspection.columns import AGAINST
from build_engines.reinspection.listing import ArchiveImage, folder_of, list_images
from build_engines.reinspection.parts import open_parts
from build_engines.reinspection.records import Asked, ScoringRecord, read_record, require_same
from build_engines.reinspection.scorer import EngineSource
from build_engines.reinspection.scoring import CHUNK, score_parts
from engines.bundle import Bundle


def score_archive(
    source: Path,
    out: Path,
    engine: Bundle,
    against: Bundle | None,
    backend: str,
    *,
    address: str | None,
    workers: int | None,
    console: Console,
) -> ScoringRecord:
    """Score all images of an archive, or go on where that stopped; nothing is done where `out` is finished.

    Args:
        source: see `list_images`.
        out: see `build_engines.reinspection.columns.schema`.
        engine, against: verified bundles; with two, each image is decoded once.
        backend: the inference library, not `auto`.
        address, workers: see `score_parts`.

    Raises:
        ReinspectionError: no images, no cluster, or an output of something else.
        UnispectError: as `score_parts`.
        OSError: the archive cannot be read, or the output not written.
    """
    if not source.exists():
        raise ReinspectionError(f"There is no archive {source}; give a folder of images, or a manifest of them.")
    asked = Asked.of(source, engine, against, backend)
    if out.is_dir():
        raise ReinspectionError(f"{out} is a folder; give a file, as scores.parquet, as --out.")
    if out.exists():
        record = read_record(out)
        require_same(out, record.asked, asked)
        return record

    def listed() -> list[ArchiveImage]:
        with console.status(f"Listing images of {source}"):
            return list_images(source)

    engines = [_source(engine, ""), *([_source(against, AGAINST)] if against else [])]
    with open_parts(out, asked, CHUNK, listed) as parts:
        folder = folder_of(source).resolve()
        score_parts(parts, folder, engines, backend, address=address, workers=workers, console=console)
        with console.status(f"Writing {out}"):
            parts.finish()
        return parts.record


def _source(bundle: Bundle, prefix: str) -> EngineSource:
    return EngineSource(bundle.folder.resolve(), bundle.manifest.digest, prefix)
