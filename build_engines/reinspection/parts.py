"""The parts of an output while it is being made, in a folder beside it: a scoring that stopped goes on with them."""

import fcntl
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from build_engines.errors import ReinspectionError
from build_engines.reinspection.columns import to_parquet
from build_engines.reinspection.listing import ArchiveImage
from build_engines.reinspection.records import METADATA_KEY, Asked, ScoringRecord, require_same
from engines.files import replace_synced, write_atomic

_RECORD, _LISTING, _LOCK = "scoring.json", "listing.parquet", "lock"
_PART = re.compile(r"part-(\d+)\.parquet")
# A reader skips what it does not want by row groups, which should not be too many.
_ROWS_A_GROUP = 65_536
# So that few images are shared out as well.
_FEWEST_PARTS = 16


class Parts:
    """The images of a scoring, and the parts of its output that are done. Made by `open_parts`."""

    def __init__(self, out: Path, folder: Path, record: ScoringRecord, images: list[ArchiveImage]) -> None:
        self.record = record
        self._out, self._folder, self._images = out, folder, images

    def done(self) -> set[int]:
        """The numbers of the parts that are there."""
        found = (_PART.fullmatch(path.name) for path in self._folder.iterdir())
        return {int(match[1]) for match in found if match}

    def images_of(self, part: int) -> list[ArchiveImage]:
        """The images that a part is of."""
        return self._images[self.record.images_of(part)]

    def add(self, part: int, content: bytes) -> None:
        """Keep a part, a Parquet file. Raises OSError where it cannot be written."""
        write_atomic(self._path(part), content)

    def finish(self) -> None:
        """Put all parts together as the output, in the images' order, and delete them.

        Raises:
            ReinspectionError: a part is not there, or not of its images.
            OSError: the output cannot be written.
        """
        scratch = Path(tempfile.mkstemp(dir=self._out.parent, prefix=f".{self._out.name}.")[1])
        try:
            self._write(scratch)
            scratch.chmod(0o644)
            replace_synced(scratch, self._out)
        finally:
            scratch.unlink(missing_ok=True)
        shutil.rmtree(self._folder)

    def _write(self, path: Path) -> None:
        writer: pq.ParquetWriter | None = None
        waiting: list[pa.Table] = []
        try:
            for part in range(self.record.parts):
                waiting.append(self._read(part))
                last = part == self.record.parts - 1
                if not last and sum(map(len, waiting)) < _ROWS_A_GROUP:
                    continue
                rows = pa.concat_tables(waiting)
                if writer is None:
                    metadata = {METADATA_KEY: self.record.model_dump_json()}
                    writer = pq.ParquetWriter(path, rows.schema.with_metadata(metadata), compression="zstd")
                writer.write_table(rows)
                waiting.clear()
        finally:
            if writer is not None:
                writer.close()

    def _read(self, part: int) -> pa.Table:
        path = self._path(part)
        try:
            table = pq.read_table(path)
        except (FileNotFoundError, pa.ArrowException) as error:
            raise ReinspectionError(
                f"{path} is missing or broken; delete it and call the same command again."
            ) from error
        if table["path"].to_pylist() != [image.text for image in self.images_of(part)]:
            raise ReinspectionError(f"{path} is not of the images it should be; delete it and call the command again.")
        return table

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:06}.parquet"


@contextmanager
def open_parts(out: Path, asked: Asked, chunk: int, list_images: Callable[[], list[ArchiveImage]]) -> Iterator[Parts]:
    """Begin an output, or go on with one that was begun; nobody else may meanwhile.

    Args:
        out: the Parquet file that will be written.
        chunk: images a part at the most, of a new one.
        list_images: called for a new one.

    Raises:
        ReinspectionError: it was begun with something else, another process is writing it, or as `list_images`.
    """
    folder = out.with_name(f"{out.name}.parts")
    begun = _begun(folder)
    if begun is None:
        images = list_images()
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, out):
        if begun is None:
            record = ScoringRecord(asked=asked, images=len(images), chunk=_part_size(len(images), chunk))
            write_atomic(folder / _LISTING, _listing(images))
            # The record comes last: with it the scoring has begun.
            write_atomic(folder / _RECORD, record.model_dump_json(indent=1).encode())
        else:
            require_same(out, begun.asked, asked)
            record, images = begun, _read_listing(folder / _LISTING)
        yield Parts(out, folder, record, images)


def _part_size(images: int, most: int) -> int:
    return max(1, min(most, images // _FEWEST_PARTS))


def _begun(folder: Path) -> ScoringRecord | None:
    try:
        return ScoringRecord.model_validate_json((folder / _RECORD).read_bytes())
    except FileNotFoundError:
        pass
    except (NotADirectoryError, ValidationError) as error:
        raise ReinspectionError(
            f"{folder} is not of this unispect's score; delete it, or give another --out."
        ) from error
    if folder.is_dir() and any(_PART.fullmatch(path.name) for path in folder.iterdir()):
        raise ReinspectionError(f"{folder} has parts of an output and no record; delete it, or give another --out.")
    return None


@contextmanager
def _locked(folder: Path, out: Path) -> Iterator[None]:
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ReinspectionError(f"Another process is writing {out}; wait for it, or give another --out.") from error
        yield


def _listing(images: list[ArchiveImage]) -> bytes:
    names = pa.array([image.name.encode("utf-8", "surrogateescape") for image in images], pa.binary())
    return to_parquet(pa.table({"name": names, "part_class": pa.array([i.part_class for i in images], pa.string())}))


def _read_listing(path: Path) -> list[ArchiveImage]:
    try:
        columns = pq.read_table(path).to_pydict()
        pairs = zip(columns["name"], columns["part_class"], strict=True)
        return [ArchiveImage(name.decode("utf-8", "surrogateescape"), part_class) for name, part_class in pairs]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ReinspectionError(f"{path} is missing or broken; delete {path.parent} and begin anew.") from error
