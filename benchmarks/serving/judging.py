"""What every compared server does with an image: this project's decoding, network and verdict; only serving differs."""

import os
from pathlib import Path

from engines import bundle as bundles
from engines.detector import Detector

BUNDLE_VARIABLE = "COMPARED_BUNDLE"


class Judging:
    """The engine of the bundle in the variable `COMPARED_BUNDLE`, warmed up; one call at a time."""

    def __init__(self) -> None:
        self._detector = Detector.open(bundles.load(Path(os.environ[BUNDLE_VARIABLE])))
        self._detector.check_golden()

    def __call__(self, data: bytes) -> dict[str, object]:
        """The verdict on an image, given as a file's bytes."""
        inspection = self._detector.inspect(data)
        return {
            "score": inspection.score,
            "threshold": inspection.threshold,
            "verdict": inspection.verdict,
            "p_value": inspection.p_value,
            "part_class": inspection.part_class,
        }
