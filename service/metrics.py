"""What Prometheus is told. Labels come from the bundle, the routes and the kinds of problems, never from a client.

A device with 15 part classes has under 200 series, for a fleet has hundreds of devices: buckets and labels are those
that deploy/prometheus and deploy/grafana use. The scores of each class are in the ledger.
"""

from collections.abc import Callable, Iterator
from typing import get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import InfoMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from engines.bundle import Bundle
from engines.scoring import Verdict
from service.health import Stage
from service.inspector import Inspector
from service.jobs import Result
from service.ledger.ledger import Ledger
from service.shadow import ShadowInspection
from service.timing import STAGES

# Seconds. The budget of deploy/prometheus/recording.yml is one of them, so that it is met or missed exactly.
INSPECTION_BUCKETS = (0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
STAGE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1)
COMMIT_BUCKETS = (0.005, 0.02, 0.1, 0.5)
SCORE_BUCKETS = (0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0, 5.0)

# All that can become of a request: shed is what was welcome and came at the wrong time.
OUTCOMES = ("ok", "refused", "shed", "failed", "gone")
_GONE = frozenset({"client-gone", "cancelled"})
_SHED = frozenset({"queue-full", "deadline-passed", "not-ready", "too-many-readers"})
# Alerts are on how these grow: that needs a series from before the first one on.
_KNOWN_KINDS = ("queue-full", "deadline-passed")
_VERDICTS: tuple[str, ...] = get_args(Verdict)
_INSPECTION_API = "inspection"
_STAGES = tuple(stage for stage in STAGES if stage != "total")
_ENGINE_FAILED = (Stage.FAILED, Stage.BROKEN)
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
        self._requests = Counter(
            "unispect_requests",
            "HTTP requests, but for those of probes and scrapers, by the API they are of and what became of them.",
            ["api", "outcome"],
            registry=registry,
        )
        self._problems = Counter(
            "unispect_problems",
            "HTTP requests that did not get all they asked for, by the last part of the problem's type URI.",
            ["kind"],
            registry=registry,
        )
        self._seconds = Histogram(
            "unispect_inspection_seconds",
            "Time per inspection, from acceptance to the result.",
            buckets=INSPECTION_BUCKETS,
            registry=registry,
        )
        stages = Histogram(
            "unispect_stage_seconds",
            "Time per inspection and stage.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._classes: set[str] = set()
        self._verdicts = Counter(
            "unispect_verdicts",
            "Inspections by part class and verdict.",
            ["part_class", "verdict"],
            registry=registry,
        )
        self._scores = Histogram(
            "unispect_score_ratio",
            "Score divided by the part class's threshold: above 1 the part fails.",
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
        for outcome in OUTCOMES:
            self._requests.labels(_INSPECTION_API, outcome)
        for kind in _KNOWN_KINDS:
            self._problems.labels(kind)
        self._gauge("queue_depth", "Inspections accepted and not yet answered.", lambda: inspector.admission.depth)
        self._gauge("queue_limit", "Most of them; more are refused.", lambda: inspector.admission.max_queue)
        self._gauge(
            "ready",
            "1 while inspections are welcome, else 0.",
            lambda: inspector.health.ready and ledger.problem is None,
        )
        self._gauge(
            "engine_failed",
            "1 where the engine could not be built or opened, or broke, also while another one serves for it.",
            lambda: inspector.health.stage in _ENGINE_FAILED or inspector.lineup.failed is not None,
        )
        self._commits = Histogram(
            "unispect_ledger_commit_seconds",
            "Time per transaction of the ledger.",
            buckets=COMMIT_BUCKETS,
            registry=registry,
        )
        self._rows = Counter("unispect_ledger_rows", "Rows that the ledger's transactions wrote.", registry=registry)
        ledger.on_commit(self._observe_commit)
        registry.register(_EngineCollector(inspector))
        self._stages = {stage: stages.labels(stage) for stage in _STAGES}
        self.know(inspector.bundle)

    def know(self, bundle: Bundle) -> None:
        """Make the series of a bundle's part classes, so that a rate over them is right from the first event on.

        Those of other classes go: engines are exchanged for years.
        """
        classes = {part.name for part in bundle.manifest.part_classes}
        for gone in self._classes - classes:
            for verdict in _VERDICTS:
                self._verdicts.remove(gone, verdict)
        for name in classes:
            for verdict in _VERDICTS:
                self._verdicts.labels(name, verdict)
        self._classes = classes

    def count_shadow(self, seen: ShadowInspection) -> None:
        """Count an inspection of the shadow."""
        self._shadow.labels(_AGREEMENT[seen.agrees]).inc()

    def count_request(self, api: str, kind: str, status: int) -> None:
        """Count a request.

        Args:
            api: what its route is of.
            kind: `ok`, or the slug of its problem.
            status: of the answer; 0 where there is none.
        """
        self._requests.labels(api, _outcome(kind, status)).inc()
        if kind != "ok":
            self._problems.labels(kind).inc()

    def observe(self, result: Result) -> None:
        """Count an inspection."""
        inspection, timing = result.inspection, result.timing
        self._seconds.observe(timing.total)
        for stage, histogram in self._stages.items():
            histogram.observe(getattr(timing, stage))
        self._verdicts.labels(inspection.part_class, inspection.verdict).inc()
        if inspection.threshold > 0:
            self._scores.observe(inspection.score / inspection.threshold)
        if inspection.unknown_part:
            self._unknown.inc()

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(f"unispect_{name}", text, registry=self.registry).set_function(read)

    def _observe_commit(self, rows: int, seconds: float) -> None:
        self._commits.observe(seconds)
        self._rows.inc(rows)


def _outcome(kind: str, status: int) -> str:
    if kind in _GONE:
        return "gone"
    if kind in _SHED:
        return "shed"
    return "failed" if status >= 500 else "refused" if status >= 400 else "ok"


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
