"""Records that look like real ones."""

import time
from typing import Any

from engines.scoring import Region
from service.ids import new_id
from service.ledger.records import InspectionRecord
from service.timing import Timing


def make_record(**changed: Any) -> InspectionRecord:
    """A part that failed just now, but for what is `changed`."""
    now = time.time_ns()
    values: dict[str, Any] = {
        "id": new_id(now),
        "time": now // 1000,
        "part_id": "Teil 7, Größe ½",
        "station": None,
        "client": "127.0.0.1",
        "part_class": "gear",
        "part_class_source": "recognised",
        "unknown_part": False,
        "score": 0.1 + 0.2,
        "threshold": 1e-300,
        "p_value": 1 / 3,
        "verdict": "fail",
        "regions": (Region(1, 2, 3, 4, 5, 0.75), Region(6, 7, 8, 9, 10, 0.5)),
        "engine_name": "parts",
        "engine_version": "1",
        "precision": "int8",
        "backend": "openvino",
        "width": 640,
        "height": 480,
        "image_sha256": "ab" * 32,
        "timing": Timing(0.001, 0.002, 0.003, 0.004, 0.011),
    }
    return InspectionRecord(**values | changed)
