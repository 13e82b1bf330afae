"""The drift of what is served: fed by every inspection, read by the metrics and by /v1/drift."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, select

from engines.bundle import Manifest
from service.drift import DriftTest, drift_tests
from service.inspector import Inspector
from service.jobs import Result
from service.ledger.schema import inspections

# Enough that a test knows its normal again; read in a second or two on a small device.
_REPLAYED = 10_000


class DriftMonitor(Collector):
    """The drift tests of the engine that serves; they begin anew with another engine.

    `observe` and the rest are called on the event loop, `collect` and `replay` by any thread.

    Args:
        inspector: knows which engine serves.
    """

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._follow(inspector.bundle.manifest)

    @property
    def tests(self) -> dict[str, DriftTest]:
        """By part class of the engine that serves."""
        if self._inspector.bundle.manifest is not self._manifest:
            self._follow(self._inspector.bundle.manifest)
        return self._tests

    @property
    def since(self) -> dict[str, datetime]:
        """When the alarms began that last, by part class."""
        return {name: began for name, began in self._since.items() if name in self.tests}

    def observe(self, result: Result) -> None:
        """Take an inspection; what did not pass, and what an engine judged that serves no more, is left out."""
        inspection, tests = result.inspection, self.tests
        engine = (result.engine["name"], result.engine["version"])
        if inspection.verdict == "pass" and engine == (self._manifest.name, self._manifest.version):
            self._take(tests[inspection.part_class], inspection.part_class, inspection.p_value, datetime.now(UTC))

    def replay(self, connection: Connection) -> None:
        """Take the newest inspections of the ledger that the engine that serves passed, for a service that restarts."""
        query = select(
            inspections.c.time,
            inspections.c.part_class,
            inspections.c.p_value,
            inspections.c.engine_name,
            inspections.c.engine_version,
        )
        newest = query.where(inspections.c.verdict == "pass").order_by(inspections.c.id.desc()).limit(_REPLAYED)
        tests = self.tests
        for row in reversed(connection.execute(newest).all()):
            engine = (row.engine_name, row.engine_version)
            if engine == (self._manifest.name, self._manifest.version) and row.part_class in tests:
                time = datetime.fromtimestamp(row.time / 1e6, UTC)
                self._take(tests[row.part_class], row.part_class, row.p_value, time)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "unispect_drift",
            "Drift of the scores of parts that pass: at 6 and above production is not as in training.",
            labels=["part_class"],
        )
        for name, test in list(self.tests.items()):
            family.add_metric([name], test.statistic)
        yield family

    def _follow(self, manifest: Manifest) -> None:
        self._tests = drift_tests(manifest.part_classes)
        self._since: dict[str, datetime] = {}
        self._manifest = manifest

    def _take(self, test: DriftTest, part_class: str, p: float, time: datetime) -> None:
        test.observe(p)
        if test.drifting:
            self._since.setdefault(part_class, time)
        else:
            self._since.pop(part_class, None)
