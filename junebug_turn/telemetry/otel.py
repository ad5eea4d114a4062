"""Spans for OpenTelemetry, exported by its own SDK: only with the extra ``otel``, and when its variables ask for it.

The SDK exports from a thread of its own, so the reactor never waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from junebug_turn import version
from junebug_turn.telemetry.tracing import TraceContext


class OtelSpan:
    """A span that is under way.

    :ivar context: for the steps within it
    """

    def __init__(self, span: Any, state: str) -> None:
        self._span = span
        found = span.get_span_context()
        self.context = TraceContext(
            f"{found.trace_id:032x}", f"{found.span_id:016x}", f"{found.trace_flags:02x}", state
        )

    def end(self, fault: str = "") -> None:
        """End it; ``fault`` is a word for what went wrong."""
        if fault:
            self._span.set_status(Status(StatusCode.ERROR, fault))
        self._span.end()


class OtelRecorder:
    """Recorder of spans, which the SDK exports as the variables of OpenTelemetry say.

    :param environ: says whether the service has another name than ours
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        named = "OTEL_SERVICE_NAME" in environ or "service.name" in environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        resource = Resource.create({} if named else {SERVICE_NAME: "junebug-turn"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("junebug_turn", version())

    def start(
        self, kind: str, parent: TraceContext | None, verb: str, place: str, attributes: Mapping[str, str]
    ) -> OtelSpan:
        """Start a span; see ``tracing.Recorder``."""
        context, state = None, ""
        if parent is not None:
            state = parent.state
            above = SpanContext(
                int(parent.trace_id, 16),
                int(parent.parent_id, 16),
                is_remote=True,
                trace_flags=TraceFlags(int(parent.flags, 16)),
            )
            context = set_span_in_context(NonRecordingSpan(above))
        span = self._tracer.start_span(
            f"{verb} {place}", context=context, kind=SpanKind[kind], attributes=dict(attributes)
        )
        return OtelSpan(span, state)

    def close(self) -> None:
        """Export the last spans; blocks."""
        self._provider.shutdown()
