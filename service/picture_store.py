"""Keeps pictures and maps of inspections by a policy, beside the inspections and never in their way.

What is offered is written by a thread of its own. It is dropped, and counted, where that thread is behind, where the
disk has less room than the reserve, and where it cannot be written: the ledger needs the disk more. A second thread
deletes what is too old or above the quota.
"""

import logging
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engines.errors import ImageError
from service.ledger.records import InspectionRecord
from service.picture_folder import PictureFolder
from service.picture_policy import PicturePolicy
from service.pictures import InspectedPicture

_MOST_WAITING_BYTES = 64 * 2**20
_SWEEP_SECONDS = 3600.0
_JOIN_SECONDS = 5.0
_OUTCOMES = ("kept", "behind", "disk_full", "failed")
_log = logging.getLogger(__name__)


class PictureStore(Collector):
    """`start` and `close` once each; the rest may be called from any thread. Tells Prometheus what became of offers.

    Args:
        folder: the files.
        policy: which inspections' are kept.
        quota_bytes: the most that all files may have together, but for what comes while a sweep runs.
        keep_seconds: the time after which a file is deleted.
        reserve_bytes: of the disk; while less is free, nothing is kept.
    """

    def __init__(
        self, folder: PictureFolder, policy: PicturePolicy, *, quota_bytes: int, keep_seconds: float, reserve_bytes: int
    ) -> None:
        self.folder = folder
        self._policy = policy
        self._quota_bytes, self._keep_seconds, self._reserve_bytes = quota_bytes, keep_seconds, reserve_bytes
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._kept_bytes = 0
        self._outcomes = Counter(dict.fromkeys(_OUTCOMES, 0))
        self._trouble: str | None = None
        self._offers: SimpleQueue[InspectedPicture | None] = SimpleQueue()
        self._closing = threading.Event()
        self._sweep_due = threading.Event()
        self._writer = threading.Thread(target=self._write_offers, name="pictures", daemon=True)
        self._sweeper = threading.Thread(target=self._sweep_regularly, name="picture-sweep", daemon=True)

    def start(self) -> None:
        """Begin to write what is offered and to delete what is too much."""
        self._writer.start()
        self._sweeper.start()

    def close(self) -> None:
        """Write what waits, for a few seconds at most, and stop."""
        self._closing.set()
        self._sweep_due.set()
        self._offers.put(None)
        self._writer.join(_JOIN_SECONDS)
        self._sweeper.join(_JOIN_SECONDS)

    def offer(self, record: InspectionRecord, data: bytes, anomaly_map: NDArray[np.float32]) -> None:
        """Keep an inspection's picture and map if the policy wants them. Returns at once.

        Args:
            data: the file that was sent.
            anomaly_map: float32 [h, w].
        """
        if not self._policy.keeps(record.verdict, record.id):
            return
        offer = InspectedPicture(record, data, anomaly_map)
        with self._lock:
            if self._waiting_bytes and self._waiting_bytes + offer.size > _MOST_WAITING_BYTES:
                self._outcomes["behind"] += 1
                return
            self._waiting_bytes += offer.size
        self._offers.put(offer)

    def prolong(self, record: InspectionRecord) -> None:
        """Let an inspection's picture and map, if kept, count as new: somebody has worked on them."""
        self.folder.touch_picture(record.image_sha256)
        self.folder.touch_map(record.id)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            outcomes, kept_bytes, waiting_bytes = dict(self._outcomes), self._kept_bytes, self._waiting_bytes
        family = CounterMetricFamily(
            "unispect_pictures",
            "Inspections whose picture and map the policy wants: kept, or why not.",
            labels=["outcome"],
        )
        for outcome, count in outcomes.items():
            family.add_metric([outcome], count)
        yield family
        yield GaugeMetricFamily("unispect_pictures_bytes", "Size of all kept pictures and maps.", kept_bytes)
        yield GaugeMetricFamily("unispect_pictures_waiting_bytes", "Size of what waits to be written.", waiting_bytes)

    def _write_offers(self) -> None:
        while (offer := self._offers.get()) is not None:
            outcome, added = self._write(offer)
            with self._lock:
                self._waiting_bytes -= offer.size
                self._kept_bytes += added
                self._outcomes[outcome] += 1
                full = self._kept_bytes > self._quota_bytes
            if full:
                self._sweep_due.set()

    def _write(self, offer: InspectedPicture) -> tuple[str, int]:
        """What became of an offer, and the bytes that were added."""
        try:
            self.folder.root.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder.root).free - offer.size < self._reserve_bytes:
                self._note(f"No pictures are kept: less than {self._reserve_bytes >> 20} MB are free on the disk.")
                return "disk_full", 0
            added = self.folder.add_picture(offer.record.image_sha256, offer.data)
            added += self.folder.add_map(offer.record.id, offer.anomaly_map)
        except (OSError, ImageError) as error:
            self._note(f"A picture could not be kept ({error}).")
            return "failed", 0
        self._note(None)
        return "kept", added

    def _note(self, trouble: str | None) -> None:
        # One line when it begins and one when it ends, not one a picture.
        if trouble is None and self._trouble is not None:
            _log.info("Pictures are kept again.")
        elif trouble is not None and self._trouble is None:
            _log.warning("%s", trouble)
        self._trouble = trouble

    def _sweep_regularly(self) -> None:
        while not self._closing.is_set():
            self._sweep_due.clear()
            with self._lock:
                before = self._kept_bytes
            try:
                left = self.folder.sweep(self._quota_bytes, self._keep_seconds)
            except OSError as error:
                _log.warning("Old pictures could not be deleted (%s).", error)
            else:
                with self._lock:
                    # What was written meanwhile may have been counted by the sweep too; the next one puts it right.
                    self._kept_bytes += left - before
            self._sweep_due.wait(_SWEEP_SECONDS)
