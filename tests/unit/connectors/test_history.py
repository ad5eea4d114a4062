"""Tests of the history of a message's failed attempts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp.codec import decode_table, encode_table
from junebug_turn.amqp.frames import publish_properties
from junebug_turn.connectors.history import History, original_headers
from junebug_turn.connectors.retry_queues import DELAYS, RetryWindows
from junebug_turn.errors import DeliveryExhausted


def failure(first: float, last: float, attempts: int = 4, status: int | None = 503) -> DeliveryExhausted:
    return DeliveryExhausted(
        "503",
        reason="http_status",
        last_status=status,
        attempts=attempts,
        first_failure=first,
        last_failure=last,
    )


@given(
    reason=st.text(st.characters(exclude_categories=()), max_size=300),
    status=st.none() | st.integers(),
    attempts=st.integers(),
    times=st.tuples(st.floats(), st.floats()),
    error=st.text(st.characters(exclude_categories=()), max_size=400),
)
def test_a_copy_never_fails_for_its_history(
    reason: str, status: int | None, attempts: int, times: tuple[float, float], error: str
) -> None:
    """Whatever a failure says, its history can be written and read again: numbers of any size, times that are none,
    long texts and odd characters.  It fits into the smallest frame beside all other properties of a message."""
    wrong = DeliveryExhausted(
        "?",
        reason=reason,
        last_status=status,
        attempts=attempts,
        first_failure=times[0],
        last_failure=times[1],
        last_error=error,
    )
    history = History(1.0, 1.0, attempts=2**31 - 1).after(wrong).delayed()
    table = encode_table(history.headers())
    assert History.read(decode_table(table)[0], 2.0).attempts >= 0
    assert len(publish_properties(history.headers(), 2**31)) < 1150


def test_the_destinations_words() -> None:
    """What the destination said is a header of its own; a later failure without words has none."""
    failed = failure(1, 2)
    failed.last_error = "Invalid recipient (470)"
    history = History(1.0, 1.0).after(failed)
    assert history.headers()["last_error"] == "Invalid recipient (470)"
    assert History.read(history.headers(), 3.0).last_error == "Invalid recipient (470)"
    assert "last_error" not in history.after(failure(3, 4)).headers()
    assert "last_error" not in original_headers(history.headers(), with_deaths=True)


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.integers(0, 50), st.none() | st.integers(100, 599))
def test_a_history_goes_round(first: int, later: int, attempts: int, status: int | None) -> None:
    """What the headers carry is read again, and a further failure adds to it."""
    history = History(first, first).after(failure(first, first, attempts, status)).delayed()
    again = History.read(decode_table(encode_table(history.headers()))[0], first + later)
    assert again == history
    more = again.after(failure(first + later, first + later, 3, None))
    assert (more.attempts, more.delays, more.last_status) == (attempts + 3, 1, None)
    assert (more.first_failure, more.last_failure) == (first, first + later)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["reason", "attempts", "delays", "last_status", "first_failure", "last_failure"]),
        _values | st.datetimes().map(datetime.isoformat) | st.just("9999-12-31T23:59:59-23:00"),
    )
)
def test_hostile_headers(headers: dict[str, Any]) -> None:
    """Whatever the headers hold, a history comes of it that can be written, and none lies in the future."""
    now = 1_000_000.0
    history = History.read(headers, now).after(failure(now, now)).delayed()
    encode_table(history.headers())
    assert history.first_failure <= now
    assert RetryWindows().delay(history, now) in (None, *DELAYS)


@pytest.mark.parametrize("name", ["x-death", "x-first-death-queue", "x-last-death-reason"])
def test_deaths(name: str) -> None:
    """RabbitMQ's history of dead letters is dropped once we delay; CC, BCC and our own headers always are."""
    headers = {name: [], "CC": ["q"], "BCC": ["q"], "attempts": 3, "x": 1}
    assert original_headers(headers, with_deaths=False) == {"x": 1}
    assert original_headers(headers, with_deaths=True) == {name: [], "x": 1}


def test_times_are_in_utc() -> None:
    """A time without a zone is taken as UTC."""
    history = History.read({"first_failure": "2026-01-01T00:00:00"}, 4e9)
    assert history.first_failure == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
