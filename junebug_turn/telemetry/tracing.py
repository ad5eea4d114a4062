"""Trace context of W3C (``traceparent`` and ``tracestate``), which goes with a message from one end to the other.

The format is that of https://www.w3.org/TR/trace-context/, version 00.  Each coroutine has the context of the work that
it does, as it has its log fields, of which ``trace_id`` is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, Self

from attrs import field, frozen

from junebug_turn.telemetry.context import note

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"

MAX_STATE = 512
"""Characters of a ``tracestate``; a longer one is dropped, as the standard allows."""

_VERSION_00 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
# Of a later version the beginning is read, as the standard asks; 255 is none.
_LATER = re.compile(r"(?!ff|00)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = "01"


@frozen
class TraceContext:
    """Trace context of a message.

    :ivar trace_id: 32 hexadecimal digits, the same for all work on the message and on the answers to it
    :ivar parent_id: 16 hexadecimal digits, the span of the last step
    :ivar flags: 2 hexadecimal digits; 01: the trace is recorded
    :ivar state: the ``tracestate``, which is passed on as it came; empty: none
    """

    trace_id: str
    parent_id: str
    flags: str = _SAMPLED
    state: str = field(default="", repr=False)

    @classmethod
    def new(cls) -> Self:
        """Begin a trace."""
        digits = os.urandom(24).hex()
        return cls(digits[:32], digits[32:])

    @classmethod
    def read(cls, parents: Sequence[object], states: Sequence[object] = ()) -> Self | None:
        """Read the values of the two headers, as texts or bytes; None where there is no ``traceparent`` that is valid.

        :param states: several are one list
        """
        if len(parents) != 1:
            return None
        parent = _text(parents[0])
        found = _VERSION_00.fullmatch(parent) or _LATER.fullmatch(parent)
        if found is None:
            return None
        trace_id, parent_id, flags = found.groups()
        if not trace_id.strip("0") or not parent_id.strip("0"):
            return None
        state = ",".join(filter(None, map(_text, states)))
        if len(state) > MAX_STATE or not state.isprintable():
            state = ""
        return cls(trace_id, parent_id, flags, state)

    @classmethod
    def of_headers(cls, headers: Mapping[Any, Any]) -> Self | None:
        """Read the headers of an AMQP message."""
        if TRACEPARENT not in headers:
            return None
        states = (headers[TRACESTATE],) if TRACESTATE in headers else ()
        return cls.read((headers[TRACEPARENT],), states)

    @classmethod
    def stored(cls, text: str | None) -> Self | None:
        """Read what ``to_text`` wrote."""
        if text is None:
            return None
        parent, _, state = text.partition(" ")
        return cls.read((parent,), (state,))

    def step(self) -> Self:
        """Return the context for the next step, which has a span of its own in the same trace."""
        return type(self)(self.trace_id, os.urandom(8).hex(), self.flags, self.state)

    @property
    def traceparent(self) -> str:
        """The value of the header ``traceparent``."""
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags}"

    def headers(self) -> dict[str, str]:
        """Return the headers that carry it, in HTTP as in AMQP."""
        headers = {TRACEPARENT: self.traceparent}
        if self.state:
            headers[TRACESTATE] = self.state
        return headers

    def to_text(self) -> str:
        """Write it for a store."""
        return f"{self.traceparent} {self.state}" if self.state else self.traceparent


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.strip() if isinstance(value, str) and value.isascii() else ""


_current: ContextVar[TraceContext | None] = ContextVar("junebug_turn.trace", default=None)


def current() -> TraceContext | None:
    """Return the trace context of the work that is under way."""
    return _current.get()


def current_text() -> str | None:
    """Return it as a store has it."""
    context = _current.get()
    return None if context is None else context.to_text()


def use(context: TraceContext) -> None:
    """Have this coroutine work in a trace from now on; its log lines say so."""
    _current.set(context)
    note(trace_id=context.trace_id)


def current_headers() -> dict[str, str] | None:
    """Return the headers that carry it; None where there is none."""
    context = _current.get()
    return None if context is None else context.headers()


def resume(stored: str | None) -> None:
    """Have this coroutine go on with the trace that a store has kept, unless it has one already."""
    if _current.get() is None:
        use(TraceContext.stored(stored) or TraceContext.new())


SERVER, CLIENT, PRODUCER, CONSUMER = "SERVER", "CLIENT", "PRODUCER", "CONSUMER"
"""The kinds of spans, in the words of OpenTelemetry."""


class Span(Protocol):
    """A span that is recorded.

    :ivar context: for the steps within it
    """

    context: TraceContext

    def end(self, fault: str = "") -> None:
        """End it; ``fault`` is a word for what went wrong."""


class Recorder(Protocol):
    """Recorder of spans."""

    def start(
        self, kind: str, parent: TraceContext | None, verb: str, place: str, attributes: Mapping[str, str], /
    ) -> Span:
        """Start a span.

        :param verb: with ``place`` its name; both are of bounded number
        """

    def close(self) -> None:
        """Export the last spans; blocks."""


_recorder: Recorder | None = None


def record_spans(recorder: Recorder | None) -> None:
    """Have spans recorded from now on, or none."""
    global _recorder
    _recorder = recorder


def start(kind: str, parent: TraceContext | None, verb: str, place: str, **attributes: str) -> Span | None:
    """Start a span, where spans are recorded."""
    return None if _recorder is None else _recorder.start(kind, parent, verb, place, attributes)


def begin(kind: str, parent: TraceContext | None, verb: str, place: str, **attributes: str) -> Span | None:
    """Have this coroutine work in a step of ``parent``'s trace, or of a new one; returns what ``start`` does."""
    span = start(kind, parent, verb, place, **attributes)
    if span is not None:
        use(span.context)
    else:
        use(TraceContext.new() if parent is None else parent.step())
    return span
