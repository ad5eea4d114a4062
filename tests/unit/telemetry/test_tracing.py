"""The trace context of W3C: what is read, what is refused, and what each step writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from junebug_turn.telemetry.context import with_context
from junebug_turn.telemetry.tracing import (
    MAX_STATE,
    TraceContext,
    current,
    current_headers,
    current_text,
    resume,
    use,
)
from tests.support.application_harness import done

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
@pytest.mark.parametrize("form", [str, str.encode])
def test_valid(flags: str, form: Any) -> None:
    """A traceparent of version 00 is taken, from a text or from bytes, and written as it came."""
    context = TraceContext.read([form(f"00-{TRACE}-{SPAN}-{flags}")], [form("a=1"), form("b=2")])
    assert context == TraceContext(TRACE, SPAN, flags, "a=1,b=2")
    assert context.headers() == {"traceparent": f"00-{TRACE}-{SPAN}-{flags}", "tracestate": "a=1,b=2"}


@pytest.mark.parametrize("end", ["", "-more-of-it"])
def test_later_version(end: str) -> None:
    """Of a later version the part that is known is taken, and version 00 is written."""
    context = TraceContext.read([f"cc-{TRACE}-{SPAN}-01{end}"])
    assert context is not None
    assert context.traceparent == PARENT


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"{PARENT}-",
        f"{PARENT}-more",
        PARENT.upper(),
        PARENT[:-1],
        f"0{PARENT}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        PARENT.replace("0", "\u0660"),
        None,
        7,
        b"\xff",
        {},
    ],
)
def test_invalid(value: Any) -> None:
    """Anything else is as if it were not there: versions, lengths, hexadecimal digits, zeros."""
    assert TraceContext.read([value]) is None
    assert TraceContext.of_headers({"traceparent": value}) is None


def test_more_than_one() -> None:
    """Two traceparents are none, as the standard has it, and none at all is none."""
    assert TraceContext.read([PARENT, PARENT]) is None
    assert TraceContext.read([]) is None
    assert TraceContext.of_headers({"tracestate": "a=1"}) is None


@pytest.mark.parametrize("state", ["x" * (MAX_STATE + 1), "a=1\r\nEvil: 1", "a=\u00e9", 7, None])
def test_states_that_are_dropped(state: Any) -> None:
    """A tracestate that is too long, or can't stand in a header, is dropped; the trace goes on."""
    assert TraceContext.read([PARENT], [state]) == TraceContext(TRACE, SPAN)
    assert TraceContext.of_headers({"traceparent": PARENT, "tracestate": state}) == TraceContext(TRACE, SPAN)


@given(st.one_of(st.binary(), st.text(), st.integers(), st.none()), st.binary())
def test_anything(parent: Any, state: bytes) -> None:
    """Whatever the headers hold is read without an exception."""
    TraceContext.read([parent], [state])


def test_steps() -> None:
    """A step is of the same trace, with a span of its own; a new trace has other ids."""
    first = TraceContext.new()
    step = first.step()
    assert (step.trace_id, step.flags) == (first.trace_id, first.flags)
    assert step.parent_id != first.parent_id
    assert TraceContext.new().trace_id != first.trace_id
    for each in (first, step):
        assert TraceContext.read([each.traceparent]) == each


@pytest.mark.parametrize("state", ["", "a=1 ,b=2"])
def test_stored(state: str) -> None:
    """A store keeps a trace as a text, with its state; a text of another kind counts as none."""
    context = TraceContext(TRACE, SPAN, "00", state)
    assert TraceContext.stored(context.to_text()) == context
    assert TraceContext.stored("x") is None
    assert TraceContext.stored(None) is None


def test_of_a_coroutine() -> None:
    """Each coroutine has the trace of its work, which its log lines name; another one has none."""
    found: list[Any] = []

    async def work() -> None:
        assert current() is None
        assert (current_text(), current_headers()) == (None, None)
        use(TraceContext(TRACE, SPAN))
        found.append(with_context({"log_format": "x"}))
        assert current_text() == PARENT
        assert current_headers() == {"traceparent": PARENT}

    with capturedLogs():
        done(work())
        assert current() is None
    assert found[0]["trace_id"] == TRACE


@pytest.mark.parametrize("stored", [None, "x", PARENT])
def test_resumed(stored: str | None) -> None:
    """Work on an event goes on with the trace that was stored, unless it has one; without either it begins one."""

    async def work(before: TraceContext | None) -> TraceContext | None:
        if before is not None:
            use(before)
        resume(stored)
        return current()

    other = TraceContext.new()
    assert done(work(other)) == other
    resumed = done(work(None))
    assert resumed is not None
    assert (resumed.trace_id == TRACE) == (stored == PARENT)
    assert isinstance(Deferred.fromCoroutine(work(None)).result, TraceContext)
