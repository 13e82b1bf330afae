"""How full the service's disk is: what is to be known before pictures are no longer kept, and the ledger fails."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector


class DiskUsage(Collector):
    """Tells Prometheus of the disk of one folder; of one that cannot be looked at, nothing.

    Args:
        folder: the service's data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError:
            return
        yield GaugeMetricFamily("unispect_disk_free_bytes", "Free on the disk of the data folder.", usage.free)
        yield GaugeMetricFamily("unispect_disk_size_bytes", "Size of the disk of the data folder.", usage.total)
