"""The newest pictures and anomaly maps, in memory: a line can be watched whatever is kept of it."""

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from service.ledger.records import InspectionRecord
from service.pictures import InspectedPicture

MOST = 24
MOST_BYTES = 32 * 2**20


class RecentPictures:
    """The newest inspections', as many as fit. Thread-safe.

    Args:
        most: inspections.
        most_bytes: of them together; what is larger alone is not kept.
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._pictures: OrderedDict[str, InspectedPicture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, record: InspectionRecord, data: bytes, anomaly_map: NDArray[np.float32]) -> None:
        """Keep an inspection's until newer ones need the room. Takes microseconds."""
        # A view would keep the maps of its whole batch.
        picture = InspectedPicture(record, data, anomaly_map if anomaly_map.base is None else anomaly_map.copy())
        if picture.size > self._most_bytes:
            return
        with self._lock:
            self._pictures[record.id] = picture
            self._bytes += picture.size
            while len(self._pictures) > self._most or self._bytes > self._most_bytes:
                _, oldest = self._pictures.popitem(last=False)
                self._bytes -= oldest.size

    def find(self, inspection_id: str) -> InspectedPicture | None:
        """An inspection's; None where it is not among them."""
        with self._lock:
            return self._pictures.get(inspection_id)
