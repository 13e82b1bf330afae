"""What Prometheus is told. Labels come from the bundle, the routes and the kinds of problems, never from a client."""

from collections.abc import Iterator
from typing import get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import InfoMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from engines.bundle import Bundle
from engines.scoring import Verdict
from service.inspector import Inspector
from service.jobs import Result
from service.ledger.ledger import Ledger
from service.shadow import ShadowInspection
from service.timing import STAGES

STAGE_BUCKETS = tuple(
    milliseconds / 1000
    for milliseconds in (0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500)
)
SCORE_BUCKETS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)

_AGREEMENT = {True: "agrees", False: "disagrees"}

# A second series for each counter and histogram that says when it began: no dashboard uses it.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one application, in a registry of their own. Thread-safe.

    Args:
        inspector: its queue, its health and its engine are read at each scrape.
        ledger: its commits are counted.
    """

    def __init__(self, inspector: Inspector, ledger: Ledger) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = Counter(
            "unispect_requests",
            "HTTP requests by route template and outcome: ok, or the last part of the problem's type URI.",
            ["route", "outcome"],
            registry=registry,
        )
        stages = Histogram(
            "unispect_stage_seconds",
            "Time per inspection and stage; total goes from acceptance to the result.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        verdicts = Counter(
            "unispect_verdicts",
            "Inspections by part class and verdict.",
            ["part_class", "verdict"],
            registry=registry,
        )
        scores = Histogram(
            "unispect_score_ratio",
            "Score divided by the part class's threshold: above 1 the part fails.",
            ["part_class"],
            buckets=SCORE_BUCKETS,
            registry=registry,
        )
        self._unknown = Counter(
            "unispect_unknown_parts", "Inspections of parts unlike every known class.", registry=registry
        )
        self._shadow = Counter(
            "unispect_shadow_inspections",
            "Inspections that the shadow engine saw too, by whether both verdicts are the same.",
            ["agreement"],
            registry=registry,
        )
        for agreement in _AGREEMENT.values():
            self._shadow.labels(agreement)
        Gauge("unispect_queue_depth", "Inspections accepted and not yet answered.", registry=registry).set_function(
            lambda: inspector.admission.depth
        )
        Gauge("unispect_ready", "1 while inspections are welcome, else 0.", registry=registry).set_function(
            lambda: inspector.health.ready and ledger.problem is None
        )
        self._commits = Histogram(
            "unispect_ledger_commit_seconds",
            "Time per transaction of the ledger.",
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._rows = Histogram(
            "unispect_ledger_commit_rows",
            "Inspections and other rows in one transaction of the ledger.",
            buckets=[2.0**power for power in range(10)],
            registry=registry,
        )
        ledger.on_commit(self._observe_commit)
        registry.register(_EngineCollector(inspector))
        self._scores, self._verdicts = scores, verdicts
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self.know(inspector.bundle)

    def know(self, bundle: Bundle) -> None:
        """Make the series of a bundle's part classes, so that a rate over them is right from the first event on."""
        for part in bundle.manifest.part_classes:
            self._scores.labels(part.name)
            for verdict in get_args(Verdict):
                self._verdicts.labels(part.name, verdict)

    def count_shadow(self, seen: ShadowInspection) -> None:
        """Count an inspection of the shadow."""
        self._shadow.labels(_AGREEMENT[seen.agrees]).inc()

    def count_request(self, route: str, outcome: str) -> None:
        """Count an answered request: the template of its route, and `ok` or the slug of its problem."""
        self._requests.labels(route, outcome).inc()

    def observe(self, result: Result) -> None:
        """Count an inspection."""
        inspection, timing = result.inspection, result.timing
        for stage, histogram in self._stages.items():
            histogram.observe(getattr(timing, stage))
        self._verdicts.labels(inspection.part_class, inspection.verdict).inc()
        if inspection.threshold > 0:
            self._scores.labels(inspection.part_class).observe(inspection.score / inspection.threshold)
        if inspection.unknown_part:
            self._unknown.inc()

    def _observe_commit(self, rows: int, seconds: float) -> None:
        self._commits.observe(seconds)
        self._rows.observe(rows)


class _EngineCollector(Collector):
    """`unispect_engine_info`; its backend is empty until the engine is open."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    def collect(self) -> Iterator[InfoMetricFamily]:
        manifest = self._inspector.bundle.manifest
        labels = {
            "name": manifest.name,
            "version": manifest.version,
            "method": manifest.method,
            "precision": manifest.precision,
            "backend": self._inspector.backend_name or "",
        }
        yield InfoMetricFamily("unispect_engine", "The engine that is served.", labels)
