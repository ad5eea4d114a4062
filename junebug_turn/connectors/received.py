"""Trace of a message that a connector has received.

Tested by tests/integration/test_traceparent.py.
"""

from __future__ import annotations

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.tracing import CONSUMER, TRACEPARENT, Span, TraceContext, begin

_HEADER = TRACEPARENT.encode("ascii")


def begin_trace(delivery: Delivery, item: Message | Event, queue: str) -> Span | None:
    """Go on with the trace of a message, or begin one; returns its span, where spans are recorded.

    Of an event, and of an answer to a message, the application may know the trace: without a header it is left to that.
    """
    # Reading the headers of each message would cost more than all of this.
    trace = TraceContext.of_headers(delivery.headers) if _HEADER in delivery.header else None
    if trace is not None or (isinstance(item, Message) and item.in_reply_to is None):
        return begin(CONSUMER, trace, "process", queue)
    return None
