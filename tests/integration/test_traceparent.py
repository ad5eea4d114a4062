"""traceparent (W3C): taken from an HTTP request or made new, goes with the message to AMQP (header) and is kept with
it, is sent with the delivery of its events and of the answers to it, and stands in each log line."""

from __future__ import annotations

import re
from typing import Any

import pika
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.spans import recorder_for
from junebug_turn.telemetry.tracing import record_spans
from tests.integration.conftest import RunDaemon
from tests.integration.test_log_stories import Logged, logged
from tests.support.collector import Collector
from tools.servers.receiver import Receiver

__all__ = ["logged"]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "vendor=1"}
FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


def trace_of(headers: Any) -> str:
    """The trace id of a ``traceparent``."""
    found = FORM.fullmatch(headers["traceparent"])
    assert found is not None
    return found[1]


@pytest.mark.parametrize("given", [HEADERS, {}])
@pytest_twisted.ensureDeferred
async def test_outbound(
    run_daemon: RunDaemon, receiver: Receiver, logged: Logged, given: dict[str, str]
) -> None:
    """From HTTP to AMQP, and with the message's event to HTTP again, whose transport doesn't know of traces."""
    async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
        answered = await side.post(
            {"to": "+27820000001", "from": "8110", "content": "c", "event_url": receiver.url("/events")},
            headers=given,
        )
        message_id = answered.body["result"]["message_id"]
        properties, _ = await side.taken("outbound")
        side.publish("event", Event(user_message_id=message_id, event_type="ack", sent_message_id="s"))
        (request,) = await receiver.received(1)
        await side.handlers_done()
    trace_id = trace_of(properties.headers)
    if given:
        assert trace_id == TRACE
        assert properties.headers["traceparent"] != given["traceparent"]
        assert properties.headers["tracestate"] == request.headers["tracestate"] == "vendor=1"
    assert trace_of(request.headers) == trace_id
    lines = [line for line in logged.grep(message_id) if "Received" not in line["text"]]
    assert len(lines) == 3
    assert {line["trace_id"] for line in lines} == {trace_id}


@pytest_twisted.ensureDeferred
async def test_spans(run_daemon: RunDaemon, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are exported with OpenTelemetry: of the request, the publication, and the delivery of the event."""
    collector = Collector()
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    monkeypatch.setenv(*next(iter(environ.items())))
    recorder = recorder_for(environ)
    assert recorder is not None
    record_spans(recorder)
    try:
        async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
            answered = await side.post(
                {"to": "+27820000001", "from": "8110", "content": "c", "event_url": receiver.url("/events")},
                headers=HEADERS,
            )
            message_id = answered.body["result"]["message_id"]
            properties, _ = await side.taken("outbound")
            side.publish("event", Event(user_message_id=message_id, event_type="ack", sent_message_id="s"))
            (request,) = await receiver.received(1)
            await side.handlers_done()
        await deferToThread(recorder.close)
    finally:
        record_spans(None)
        collector.stop()
    spans = {each.name: each for each in collector.spans}
    names = [f"POST {side.connector}", f"publish {side.connector}.outbound", f"POST {receiver.url('')}"]
    assert sorted(spans) == sorted(names)
    assert {each.trace_id.hex() for each in collector.spans} == {TRACE}
    server, producer, client = (spans[name] for name in names)
    assert server.parent_span_id.hex() == HEADERS["traceparent"].split("-")[2]
    assert producer.parent_span_id == client.parent_span_id == server.span_id
    assert properties.headers["traceparent"] == f"00-{TRACE}-{producer.span_id.hex()}-01"
    assert request.headers["traceparent"] == f"00-{TRACE}-{client.span_id.hex()}-01"


@pytest_twisted.ensureDeferred
async def test_inbound(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver, logged: Logged
) -> None:
    """From AMQP to HTTP, through a delay queue too: with the transport's header, or with a new trace that stays the
    message's own."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), max_retries=0) as side:
        seen = []
        for headers in (HEADERS, {}):
            message = Message(
                to_addr="8110",
                from_addr="+27",
                transport_name=connector_name,
                transport_type="ussd",
                content="c",
            )
            receiver.script(500)
            properties = pika.BasicProperties(delivery_mode=2, headers=dict(headers))
            side.channel.basic_publish("vumi", f"{connector_name}.inbound", message.to_json(), properties)
            first = (await receiver.received(len(receiver.requests) + 1))[-1]
            again = (await receiver.received(len(receiver.requests) + 1))[-1]
            seen.append((trace_of(first.headers), trace_of(again.headers)))
        await side.handlers_done()
    assert seen[0] == (TRACE, TRACE)
    assert seen[1][0] == seen[1][1] != TRACE
    assert logged.grep("Delivered to")[0]["trace_id"] == TRACE
