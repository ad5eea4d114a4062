"""Choice of the recorder of spans, by the variables of OpenTelemetry.

Tested by tests/unit/telemetry/test_otel.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from junebug_turn.telemetry.tracing import Recorder


def recorder_for(environ: Mapping[str, str]) -> Recorder | None:
    """Make the recorder that the variables of OpenTelemetry ask for; None: they ask for none.

    :raises ImportError: the extra ``otel`` is not installed
    """
    get = environ.get
    if get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    exporter = get("OTEL_TRACES_EXPORTER", "")
    endpoint = get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if exporter not in ("", "otlp") or not (exporter or endpoint):
        return None
    from junebug_turn.telemetry.otel import OtelRecorder

    return OtelRecorder(environ)
