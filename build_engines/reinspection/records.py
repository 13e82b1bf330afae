"""What a scoring was asked, kept with its output, so that what is there is never taken for another's."""

import hashlib
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from build_engines.errors import ReinspectionError
from engines.bundle import Bundle

METADATA_KEY = b"unispect.scoring"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineRecord(_Part):
    """An engine, and the digest of its bundle."""

    name: str
    version: str
    digest: str

    @classmethod
    def of(cls, bundle: Bundle) -> "EngineRecord":
        """Of a verified bundle."""
        return cls(name=bundle.manifest.name, version=bundle.manifest.version, digest=bundle.manifest.digest)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Asked(_Part):
    """Which images through which engines.

    Attributes:
        source: absolute path of the archive's folder or manifest.
        manifest_sha256: of a manifest's content; None for a folder.
        against: the engine that the other one is compared with.
        backend: the inference library.
    """

    source: str
    manifest_sha256: str | None
    engine: EngineRecord
    against: EngineRecord | None
    backend: str

    @classmethod
    def of(cls, source: Path, engine: Bundle, against: Bundle | None, backend: str) -> "Asked":
        """Read the manifest, where it is one. Raises OSError."""
        manifest = None if source.is_dir() else hashlib.sha256(source.read_bytes()).hexdigest()
        other = None if against is None else EngineRecord.of(against)
        return cls(
            source=str(source.resolve()),
            manifest_sha256=manifest,
            engine=EngineRecord.of(engine),
            against=other,
            backend=backend,
        )


class ScoringRecord(_Part):
    """A scoring that began.

    Attributes:
        images: listed when it began; what comes to a folder later is not in it.
        chunk: images a part of the output, but for the last.
    """

    version: Literal[1] = 1
    asked: Asked
    images: int
    chunk: int

    @property
    def parts(self) -> int:
        """How many parts the output has."""
        return -(-self.images // self.chunk)

    def images_of(self, part: int) -> slice:
        """Which of the images are in a part."""
        return slice(part * self.chunk, min((part + 1) * self.chunk, self.images))


def read_record(out: Path) -> ScoringRecord:
    """The record in a finished output. Raises ReinspectionError where it is none."""
    try:
        content = (pq.read_schema(out).metadata or {})[METADATA_KEY]
        return ScoringRecord.model_validate_json(content)
    except (pa.ArrowException, KeyError, ValidationError) as error:
        raise ReinspectionError(f"{out} exists and is no output of score; give a new file as --out.") from error


def require_same(out: Path, begun: Asked, asked: Asked) -> None:
    """Raises ReinspectionError where an output was asked something else."""
    for field, what in (
        ("source", "another archive"),
        ("manifest_sha256", "another manifest, for it was changed since"),
        ("engine", "another engine"),
        ("against", "another engine as --against"),
        ("backend", "another --backend"),
    ):
        if getattr(begun, field) != getattr(asked, field):
            raise ReinspectionError(f"{out} was begun with {what}; go on with the same, or give a new file as --out.")
