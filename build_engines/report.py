"""The evaluation as a self-contained page: tables, and the worst misses and false rejects as pictures."""

import base64
from pathlib import Path

import jinja2
import numpy as np

from build_engines.evaluation import Evaluation, Judged
from engines.bundle import Bundle
from engines.files import write_atomic
from engines.heatmap import encode_jpeg, overlay
from engines.images import decode_original

_SHOWN = 12
_SIDE = 256


def write_page(path: Path, bundle: Bundle, backend: str, evaluation: Evaluation) -> None:
    """Write the page as one HTML file, atomically."""
    loader = jinja2.PackageLoader("build_engines", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    margin = sorted(evaluation.judged, key=lambda one: one.inspection.score / max(one.inspection.threshold, 1e-12))
    misses = [one for one in margin if not one.test.is_good and one.inspection.verdict == "pass"]
    rejects = [one for one in reversed(margin) if one.test.is_good and one.inspection.verdict == "fail"]
    reviews = [one for one in reversed(margin) if one.inspection.verdict == "review"]
    caught = [one for one in reversed(margin) if not one.test.is_good and one.inspection.verdict == "fail"]
    galleries = [
        ("Worst misses", "Defective parts that pass, lowest score first.", _pictures(misses), len(misses)),
        ("Worst false rejects", "Good parts that fail, highest score first.", _pictures(rejects), len(rejects)),
        ("Caught", "Defective parts that fail, highest score first.", _pictures(caught), len(caught)),
    ]
    if any(part.review for part in bundle.manifest.part_classes):
        galleries.append(
            ("For review", "Parts left to a person, highest score first.", _pictures(reviews), len(reviews))
        )
    html = environment.get_template("evaluation.html").render(
        manifest=bundle.manifest,
        backend=backend,
        evaluation=evaluation,
        mean=evaluation.mean(),
        galleries=galleries,
    )
    write_atomic(path, html.encode())


def _pictures(judged: list[Judged]) -> list[dict[str, object]]:
    return [_picture(one) for one in judged[:_SHOWN]]


def _picture(one: Judged) -> dict[str, object]:
    image = decode_original(one.test.path.read_bytes(), _SIDE)
    heat = overlay(image, one.inspection.anomaly_map, one.inspection.threshold)
    both = np.concatenate([image, heat], axis=1)
    return {
        "src": "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(both)).decode(),
        "name": f"{one.test.part_class}/{one.test.defect}/{one.test.path.name}",
        "score": one.inspection.score,
        "threshold": one.inspection.threshold,
    }
