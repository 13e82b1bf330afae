"""The chunks of an archive in a worker process: what Ray calls."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from build_engines.errors import ReinspectionError
from build_engines.reinspection.columns import table_of, to_parquet
from build_engines.reinspection.listing import ArchiveImage
from build_engines.reinspection.scorer import EngineSource, ImageScorer, Row
from build_engines.reinspection.witness import Attempt
from engines.errors import UnispectError


class Witnessing(Protocol):
    """The witness, wherever it is; see `build_engines.reinspection.witness.Witness`."""

    def begin(self, chunk: int) -> Attempt: ...
    def reached(self, chunk: int, index: int) -> None: ...


class ChunkScorer:
    """Scores chunks of images, with engines that it opens with the first.

    Args:
        folder, engines, backend, threads: see `ImageScorer`.
        witness: is told what is begun, and knows how it ended before.
    """

    def __init__(
        self, folder: Path, engines: Sequence[EngineSource], backend: str, threads: int, witness: Witnessing
    ) -> None:
        self._arguments = folder, engines, backend, threads
        self._prefixes = [source.prefix for source in engines]
        self._witness = witness
        self._scorer: ImageScorer | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, object]:
        """Score a chunk.

        Args:
            row: `chunk`, its number, and `images`, as `chunk_row` made them.

        Returns:
            `chunk`; `part`, its table as Parquet; `images` and `errors`, how many it has; `failure`, why nothing could
            be scored, for an exception would arrive as a page of Ray's traceback.
        """
        images = [ArchiveImage(*pair) for pair in json.loads(row["images"])]
        try:
            rows = self._score(row["chunk"], images)
        except UnispectError as error:
            return {"chunk": row["chunk"], "part": b"", "images": 0, "errors": 0, "failure": str(error)}
        errors = sum(any(f"{prefix}error" in one for prefix in self._prefixes) for one in rows)
        part = to_parquet(table_of(rows, self._prefixes))
        return {"chunk": row["chunk"], "part": part, "images": len(rows), "errors": errors, "failure": ""}

    def _score(self, chunk: int, images: Sequence[ArchiveImage]) -> list[Row]:
        attempt = self._witness.begin(chunk)
        if attempt.is_hopeless:
            raise ReinspectionError(
                f"Workers died again and again between {images[0].text} and {images[-1].text}; call the same command "
                "again to go on, with fewer --workers where memory was short."
            )
        if self._scorer is None:
            self._scorer = ImageScorer(*self._arguments)
        if not attempt.is_careful:
            return self._scorer.score(images)
        rows: list[Row] = []
        for index, image in enumerate(images):
            if index in attempt.deadly:
                rows.append(self._scorer.unread(image, "The process that read it died, twice."))
            else:
                self._witness.reached(chunk, index)
                rows += self._scorer.score([image])
        return rows


def chunk_row(number: int, images: Sequence[ArchiveImage]) -> dict[str, object]:
    """A chunk as one row of a Ray dataset."""
    return {"chunk": number, "images": json.dumps([(image.name, image.part_class) for image in images])}
