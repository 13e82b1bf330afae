"""Bundle and backend together: from a decoded picture to an inspection."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engines.backends import Backend, RawResult, open_backend
from engines.bundle import Bundle
from engines.errors import BackendError, ScoringError
from engines.images import DEFAULT_MAX_PIXELS, PartImage, decode
from engines.scoring import Inspection, Judge


class Detector:
    """Inspects pictures of parts. `decode` and `judge` may run on any thread, `infer` on one at a time.

    Args:
        bundle: a verified bundle.
        backend: a backend that was opened on it.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self.judge_classes = Judge(bundle.manifest.part_classes)

    @classmethod
    def open(cls, bundle: Bundle, backend: str = "auto", threads: int = 0, cache_dir: Path | None = None) -> "Detector":
        """Open a bundle on a backend; see `open_backend` for arguments and errors."""
        return cls(bundle, open_backend(bundle.network, backend, threads, cache_dir))

    def decode(self, data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> PartImage:
        """Decode a picture to the bundle's image size. Raises ImageError."""
        return decode(data, *self.bundle.manifest.image_size, max_pixels)

    def infer(self, images: Sequence[PartImage]) -> RawResult:
        """Run the network on a batch. Raises BackendError."""
        return self.backend.run(np.stack([image.pixels for image in images]))

    def judge(self, result: RawResult, index: int, image: PartImage, part_class: str | None = None) -> Inspection:
        """Judge the `index`-th image of a batch; `image` is the picture it came from.

        Raises:
            UnknownPartClass: `part_class` is not in the bundle.
            BackendError: the network gave a score that is no number.
        """
        score = float(result.scores[index])
        if not np.isfinite(score):
            raise BackendError(f"The engine gave the score {score} for an image; it must not be used on this machine.")
        return self.judge_classes.judge(
            result.maps[index], score, result.embeddings[index], (image.width, image.height), part_class
        )

    def inspect(self, data: bytes, part_class: str | None = None) -> Inspection:
        """Decode, infer and judge one picture. Raises ImageError, UnknownPartClass or BackendError."""
        image = self.decode(data)
        return self.judge(self.infer([image]), 0, image, part_class)

    def check_golden(self) -> float:
        """Score the golden image: the warm-up, and the proof that this machine computes what the builder computed.

        Returns the score.

        Raises:
            ScoringError: it differs from the bundle's by more than the bundle's tolerance.
        """
        golden = self.bundle.manifest.golden
        score = self.inspect(self.bundle.golden_path.read_bytes(), golden.part_class).score
        if abs(score - golden.score) > golden.tolerance * abs(golden.score):
            raise ScoringError(
                f"The golden image scores {score:.6g} on {self.backend.name} and {golden.score:.6g} in the bundle "
                f"{self.bundle.manifest.name}; do not use it here: build it again or choose another backend."
            )
        return score
