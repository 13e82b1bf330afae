"""A ledger as a busy plant fills it in a day: many inspections of some part classes, of which few fail."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track
from sqlalchemy import insert

from service.history import Review
from service.ids import new_id
from service.ledger.database import parse_url, writing_engine
from service.ledger.migrations import upgrade
from service.ledger.schema import inspections, reviews

STATIONS = ("line 1", "line 2", "line 3", "incoming goods")
VERDICTS = ("pass", "review", "fail")
SHARES = (0.96, 0.015, 0.025)
# Seconds from one inspection to the next; the newest is two minutes old.
_EVERY, _AGO = 0.5, 120.0
_BATCH = 5000


def fill(folder: Path, part_classes: Sequence[str], count: int, reviewed: int, seed: int = 0) -> list[str]:
    """Make `ledger.sqlite3` in `folder`; returns the ids, oldest first.

    Args:
        part_classes: the first never fails, and the last comes once in a thousand parts.
        reviewed: how many inspections have a review, those that did not pass before others.
    """
    rng = np.random.default_rng(seed)
    weights = np.array([1.0] * (len(part_classes) - 1) + [0.001 * len(part_classes)])
    classes = rng.choice(len(part_classes), count, p=weights / weights.sum())
    verdicts = np.where(classes == 0, 0, rng.choice(3, count, p=SHARES))
    ratios = np.where(verdicts == 0, rng.beta(4, 5, count), 1.0 + rng.exponential(0.3, count))
    ratios[verdicts == 1] = 0.95
    stations = rng.choice(len(STATIONS), count, p=(0.4, 0.4, 0.199, 0.001))
    seconds = 0.004 + rng.gamma(2.0, 0.001, (count, 4))
    end = time.time() - _AGO
    ids: list[str] = []
    engine = writing_engine(parse_url(None, folder), "normal")
    with engine.begin() as connection:
        upgrade(connection)
    for begin in track(range(0, count, _BATCH), "Filling the ledger"):
        rows = []
        for index in range(begin, min(begin + _BATCH, count)):
            at = int((end - (count - index) * _EVERY) * 1e9)
            rows.append(
                {
                    "id": new_id(at),
                    "time": at // 1000,
                    "part_id": f"P{index:07d}" if index % 3 else None,
                    "station": STATIONS[stations[index]] if index % 10 else None,
                    "client": "camera",
                    "part_class": part_classes[classes[index]],
                    "part_class_source": "recognised",
                    "unknown_part": False,
                    "score": 0.02 * float(ratios[index]),
                    "threshold": 0.02,
                    "p_value": 0.5,
                    "verdict": VERDICTS[verdicts[index]],
                    "regions": [] if verdicts[index] == 0 else [_region(index)],
                    "engine_name": "parts",
                    "engine_version": "1",
                    "precision": "int8",
                    "backend": "openvino",
                    "width": 640,
                    "height": 480,
                    "image_sha256": f"{index:064x}",
                    **dict(zip(_TIMES, map(float, seconds[index]), strict=True)),
                    "total_seconds": float(seconds[index].sum()),
                }
            )
        with engine.begin() as connection:
            connection.execute(insert(inspections), rows)
        ids += [row["id"] for row in rows]
    order = np.concatenate((np.flatnonzero(verdicts != 0), rng.permutation(np.flatnonzero(verdicts == 0))))
    if reviewed:
        with engine.begin() as connection:
            rows = [_review(ids[index], rng.random() < 0.7).row() for index in order[:reviewed]]
            connection.execute(insert(reviews), rows)
    engine.dispose()
    return ids


_TIMES = tuple(f"{stage}_seconds" for stage in ("decode", "queue", "inference", "postprocess"))


def _region(index: int) -> dict[str, float]:
    return {"x": index % 500, "y": index % 400, "width": 40, "height": 30, "area": 700, "peak": 0.03}


def _review(inspection_id: str, defective: bool) -> Review:
    now = time.time_ns()
    return Review(new_id(now), inspection_id, now // 1000, "defect" if defective else "ok", None, "anna")
