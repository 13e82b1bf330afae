"""A worker that one image kills, for tests that a worker must be able to import."""

import os
import signal
from collections.abc import Sequence
from typing import Any

from build_engines.reinspection import worker
from build_engines.reinspection.listing import ArchiveImage
from build_engines.reinspection.scorer import ImageScorer, Row

DEADLY = "deadly.png"


class MortalScorer(ImageScorer):
    """Dies as a decoder with a bad pointer does, at one image."""

    def score(self, images: Sequence[ArchiveImage]) -> list[Row]:
        if any(image.name == DEADLY for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(images)


class MortalChunkScorer(worker.ChunkScorer):
    """Opens that scorer in its process."""

    def __call__(self, row: dict[str, Any]) -> dict[str, object]:
        worker.ImageScorer = MortalScorer  # type: ignore[misc]
        return super().__call__(row)
