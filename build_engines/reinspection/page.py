"""The comparison of two engines as a self-contained page, with the pictures whose verdict changed."""

import base64
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import jinja2
import numpy as np
from numpy.typing import NDArray

from build_engines.reinspection.columns import AGAINST
from build_engines.reinspection.comparison import ClassComparison, Comparison
from build_engines.reinspection.records import ScoringRecord
from engines.bundle import Bundle
from engines.detector import Detector
from engines.errors import UnispectError
from engines.files import write_atomic
from engines.heatmap import encode_jpeg, overlay
from engines.images import decode_original
from engines.scoring import Verdict

VERDICTS: tuple[str, ...] = get_args(Verdict)
_SHOWN = 24
_SIDE = 256
# Maps are for looking at; the scores shown are those that were found.
_BACKEND = "openvino"


def write_page(
    path: Path, record: ScoringRecord, comparison: Comparison, folder: Path, against: Bundle, engine: Bundle
) -> None:
    """Write the page as one HTML file, atomically.

    Args:
        folder: of the archive; pictures that are gone from it are left out.
        against, engine: for the anomaly maps of the pictures that are shown.
    """
    loader = jinja2.PackageLoader("build_engines", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    html = environment.get_template("reinspection.html").render(
        asked=record.asked,
        comparison=comparison,
        changes=changes(comparison.total),
        verdicts=VERDICTS,
        pictures=_pictures(comparison.changed.slice(0, _SHOWN).to_pylist(), folder, (against, engine)),
    )
    write_atomic(path, html.encode())


def changes(total: ClassComparison) -> list[tuple[str, str]]:
    """The changes of verdict that occur: from the other engine's to the engine's."""
    return [pair for pair in product(VERDICTS, repeat=2) if pair[0] != pair[1] and total.verdicts[pair]]


def _pictures(rows: Sequence[dict[str, Any]], folder: Path, bundles: Sequence[Bundle]) -> list[dict[str, Any]]:
    if not rows:
        return []
    detectors = [Detector.open(bundle, _BACKEND) for bundle in bundles]
    shown = []
    for row in rows:
        try:
            image = _side_by_side((folder / row["path"]).read_bytes(), row, detectors)
        except (OSError, UnispectError):
            continue
        shown.append({**row, "src": "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image)).decode()})
    return shown


def _side_by_side(data: bytes, row: dict[str, Any], detectors: Sequence[Detector]) -> NDArray[np.uint8]:
    image = decode_original(data, _SIDE)
    parts = [image]
    for prefix, detector in zip((AGAINST, ""), detectors, strict=True):
        found = detector.inspect(data, row[f"{prefix}part_class"])
        parts.append(overlay(image, found.anomaly_map, found.threshold))
    return np.concatenate(parts, axis=1)
