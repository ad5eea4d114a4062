"""Spans, as a collector of OpenTelemetry gets them from the SDK; and the variables that ask for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from junebug_turn.telemetry import tracing
from junebug_turn.telemetry.otel import OtelRecorder
from junebug_turn.telemetry.spans import recorder_for
from junebug_turn.telemetry.tracing import (
    CLIENT,
    SERVER,
    TraceContext,
    begin,
    current,
    record_spans,
)
from tests.support.application_harness import done
from tests.support.collector import Collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = TraceContext(TRACE, "00f067aa0ba902b7", "01", "vendor=1")


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    record_spans(None)
    collector.stop()


@pytest.fixture
def environ(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables, where the SDK finds them."""
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    return given


def test_spans(collector: Collector, environ: dict[str, str]) -> None:
    """A span is of the trace of its parent, and what is within it is below it; its fault is a word."""
    recorder = recorder_for(environ)
    assert isinstance(recorder, OtelRecorder)
    record_spans(recorder)

    async def work() -> None:
        span = begin(SERVER, PARENT, "POST", "sms", message_id="m1")
        assert span is not None
        inner = current()
        assert inner == span.context
        assert (inner.trace_id, inner.state) == (TRACE, "vendor=1")
        below = tracing.start(CLIENT, inner, "POST", "http://h:80")
        assert below is not None
        below.end("timeout")
        span.end()

    done(work())
    recorder.close()
    below, above = collector.spans
    assert (above.name, above.kind, above.trace_id.hex()) == ("POST sms", 2, TRACE)
    assert above.parent_span_id.hex() == PARENT.parent_id
    assert {each.key: each.value.string_value for each in above.attributes} == {"message_id": "m1"}
    assert (below.name, below.kind, below.trace_id) == ("POST http://h:80", 3, above.trace_id)
    assert below.parent_span_id == above.span_id
    assert (below.status.code, below.status.message, above.status.code) == (2, "timeout", 0)
    assert collector.services == {"junebug-turn"}


def test_unsampled(collector: Collector, environ: dict[str, str]) -> None:
    """A trace that its beginner doesn't record isn't recorded here either, and goes on all the same."""
    recorder = OtelRecorder(environ)
    span = recorder.start(SERVER, TraceContext(TRACE, "00f067aa0ba902b7", "00"), "POST", "sms", {})
    assert (span.context.trace_id, span.context.flags) == (TRACE, "00")
    span.end()
    recorder.close()
    assert collector.spans == []


def test_name_of_the_service(
    collector: Collector, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has the name that the variables give it."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    recorder = OtelRecorder(environ | {"OTEL_SERVICE_NAME": "ours"})
    recorder.start(SERVER, None, "POST", "sms", {}).end()
    recorder.close()
    assert collector.services == {"ours"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
    ],
)
def test_not_asked_for(variables: dict[str, str]) -> None:
    """Without the variables no span is recorded, and no part of the SDK is asked for."""
    assert recorder_for(variables) is None
