"""The images of an archive: all below a folder, or those that a manifest lists."""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from build_engines.data.folder import SUFFIXES
from build_engines.errors import ReinspectionError
from engines.bundle import is_name

PATH, PART_CLASS = "path", "part_class"


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """An image of an archive.

    Attributes:
        name: path, absolute or relative to the archive's folder; bytes that are no UTF-8 stand as surrogates.
        part_class: that the manifest names; None leaves it to the engine to recognise.
    """

    name: str
    part_class: str | None = None

    @property
    def text(self) -> str:
        """The name as any file or screen can hold it."""
        return os.fsencode(self.name).decode("utf-8", "backslashreplace")


def folder_of(source: Path) -> Path:
    """What relative names are relative to: the archive itself, or the manifest's folder."""
    return source if source.is_dir() else source.parent


def list_images(source: Path) -> list[ArchiveImage]:
    """The images of an archive, sorted, or in a manifest's order. Links to folders are not followed.

    Args:
        source: a folder; or a CSV file with a header, or a Parquet file, with a column `path` and maybe `part_class`.

    Raises:
        ReinspectionError: no such file or folder, no images, or a manifest that cannot be read as one.
        OSError: a folder below cannot be read.
    """
    if source.is_dir():
        images = [ArchiveImage(name) for name in _images_below(source)]
        if not images:
            raise ReinspectionError(f"{source} holds no images; they end with {', '.join(sorted(SUFFIXES))}.")
        return images
    if not source.is_file():
        raise ReinspectionError(f"There is no archive {source}; give a folder of images, or a manifest of them.")
    rows = _parquet_rows(source) if source.suffix.lower() == ".parquet" else _csv_rows(source)
    images = [_checked(source, number, *row) for number, row in enumerate(rows, start=1)]
    if not images:
        raise ReinspectionError(f"The manifest {source} lists no images; it needs a row for each.")
    return images


def _images_below(folder: Path, prefix: str = "") -> Iterator[str]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        # Programs hide what they have not finished writing, and what is no image of anybody's.
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _images_below(Path(entry.path), f"{prefix}{entry.name}/")
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            yield prefix + entry.name


def _csv_rows(source: Path) -> Iterator[tuple[str | None, str | None]]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _require_path(source, reader.fieldnames or ())
            for row in reader:
                yield row[PATH], row.get(PART_CLASS)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReinspectionError(f"The manifest {source} is no CSV in UTF-8 ({error}); write it anew.") from error


def _parquet_rows(source: Path) -> Iterator[tuple[str | None, str | None]]:
    try:
        names = pq.read_schema(source).names
        _require_path(source, names)
        wanted = [name for name in (PATH, PART_CLASS) if name in names]
        table = pq.read_table(source, columns=wanted).cast(pa.schema([(name, pa.string()) for name in wanted]))
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ReinspectionError(f"The manifest {source} cannot be read ({reason}); write it anew.") from error
    for batch in table.to_batches():
        columns = batch.to_pydict()
        yield from zip(columns[PATH], columns.get(PART_CLASS, [None] * len(batch)), strict=True)


def _require_path(source: Path, names: Iterable[str]) -> None:
    if PATH not in names:
        raise ReinspectionError(
            f"The manifest {source} has no column {PATH!r}; it needs the images' paths, and may have {PART_CLASS!r}."
        )


def _checked(source: Path, number: int, name: str | None, part_class: str | None) -> ArchiveImage:
    if not name or "\0" in name:
        raise ReinspectionError(f"Row {number} of {source} has no path of an image; mend or remove it.")
    if part_class and not is_name(part_class):
        raise ReinspectionError(f"Row {number} of {source} names a part class that none can be, {part_class[:64]!r}.")
    return ArchiveImage(name, part_class or None)
