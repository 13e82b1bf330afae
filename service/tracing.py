"""Spans of requests and inspections, sent to an OpenTelemetry collector.

A request's span is FastAPI's own, by OpenTelemetry's conventions for HTTP. Without a collector there is none, and no
cost: the client's trace (`service.trace_context`) is in log and answer either way.
"""

import os
from collections.abc import Collection
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi.telemetry import TelemetryConfig

from service.errors import StartError
from service.jobs import Result
from service.ledger.records import InspectionRecord
from service.timing import STAGES

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# So that a collector that is away does not hold up the service's end.
_EXPORT_SECONDS = 2.0
# Prometheus has the metrics, and the log its lines. To look for OpenTelemetry's providers costs every request.
NO_SPANS: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


class Tracing:
    """Sends spans to a collector, in a thread of the SDK. The SDK's own variables (OTEL_*) set sampling and headers.

    Args:
        endpoint: of the collector, as http://collector:4318; spans go to /v1/traces there, by OTLP over HTTP.

    Raises:
        StartError: no such address, or the extra otel is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise StartError(
                f"The setting otlp_endpoint is {endpoint[:200]!r}; give a collector's address like http://127.0.0.1:4318."
            )
        self._provider = _provider(endpoint.rstrip("/"))
        self._tracer = self._provider.get_tracer("unispect", version("unispect"))

    def inspected(self, record: InspectionRecord, result: Result) -> None:
        """Add the spans of an inspection and of its record's way into the ledger, which ends now; none of a repeat."""
        if result.repeated:
            return
        ended = record.time * 1000
        began = ended - round(result.timing.total * 1e9)
        span = self._tracer.start_span("inspect", start_time=began)
        if span.is_recording():
            span.set_attributes(
                {
                    "unispect.inspection": record.id,
                    "unispect.part_class": record.part_class,
                    "unispect.verdict": record.verdict,
                    "unispect.score": record.score,
                    "unispect.engine": f"{record.engine_name} {record.engine_version}",
                    **{f"unispect.seconds.{stage}": getattr(result.timing, stage) for stage in STAGES},
                }
            )
        span.end(ended)
        self._tracer.start_span("commit", start_time=ended).end()

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.shutdown()

    def config(self, untraced: Collection[str]) -> TelemetryConfig:
        """What FastAPI is to do: a span of each request but those to the paths `untraced`."""
        return {
            **NO_SPANS,
            "tracing": True,
            "tracer_provider": self._provider,
            "operation_spans": False,
            "exclude": lambda scope: scope["path"] in untraced,
        }


def _provider(endpoint: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise StartError("Spans need the extra otel; install unispect[otel], or leave otlp_endpoint empty.") from error
    name = os.environ.get("OTEL_SERVICE_NAME", "unispect")
    resource = Resource.create({"service.name": name, "service.version": version("unispect")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=_EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
