"""The W3C Trace Context of a request. Source: W3C, "Trace Context", level 1."""

import os
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

TRACEPARENT = "traceparent"
_HEADER = TRACEPARENT.encode()
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A request's place in a trace: 32 and 16 hexadecimal digits, and the flags, of which 1 means sampled."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def traceparent(self) -> str:
        """As in the header of that name."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def trace_context(scope: Scope) -> TraceContext | None:
    """The trace of a request: of its span where spans are made, else the client's with a new span id, else None."""
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        return TraceContext(f"{span.trace_id:032x}", f"{span.span_id:016x}", span.trace_flags)
    given = next((value for name, value in scope["headers"] if name == _HEADER), None)
    if given is None:
        return None
    parent = trace.get_current_span(_PROPAGATOR.extract({TRACEPARENT: given.decode("latin-1")})).get_span_context()
    return TraceContext(f"{parent.trace_id:032x}", os.urandom(8).hex(), parent.trace_flags) if parent.is_valid else None
