"""Which answers are retried, and after how long."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.delivery.retry import MAX_RETRY_AFTER, RetryPolicy, is_passing, retry_after

NOON = datetime(1994, 11, 6, 12, 0, 0, tzinfo=UTC).timestamp()


def test_default_caps() -> None:
    """The documented defaults make three further attempts, after delays below 1, 4 and 16 seconds."""
    policy = RetryPolicy()
    assert policy.max_retries == 3
    assert [policy.cap(n) for n in range(3)] == [1, 4, 16]


@pytest.mark.parametrize("options", [{"max_retries": -1}, {"delay_base": -1}, {"delay_exponent": -1}])
def test_negative_numbers(options: dict[str, int]) -> None:
    """A policy with a negative number is refused."""
    with pytest.raises(ValueError, match="must be >= 0"):
        RetryPolicy(**options)


@given(
    base=st.integers(1, 10**6),
    exponent=st.integers(0, 10**6),
    n=st.integers(0, 1000),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_delay_bounds(base: int, exponent: int, n: int, drawn: float) -> None:
    """Delay n lies in [0, base ** (n * exponent)), and one too great for a float is only long."""
    policy = RetryPolicy(delay_base=base, delay_exponent=exponent)
    cap, delay = policy.cap(n), policy.delay(n, lambda: drawn)
    assert 0 <= delay < cap
    if cap < 2**50:
        assert cap == base ** (n * exponent)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20))
def test_delay_is_proportional(draws: list[float]) -> None:
    """A delay is the drawn number times its cap: evenly drawn numbers give evenly spread delays."""
    assert [RetryPolicy().delay(2, lambda x=x: x) for x in draws] == [16 * x for x in draws]  # type: ignore[misc]


def test_passing_statuses() -> None:
    """408, 425, 429 and every 5xx are retried, and no other status."""
    assert [status for status in range(100, 500) if is_passing(status)] == [408, 425, 429]
    assert all(is_passing(status) for status in range(500, 600))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"0", 0),
        (b"120", 120),
        (" 7 ", 7),
        (b"86400", MAX_RETRY_AFTER),
        (b"9" * 5000, MAX_RETRY_AFTER),
        (b"Sun, 06 Nov 1994 12:01:40 GMT", 100),
        (b"Sunday, 06-Nov-94 12:01:40 GMT", 100),
        (b"Sun Nov  6 12:01:40 1994", 100),
        (b"Sun, 06 Nov 1994 11:00:00 GMT", 0),
        (b"Sun, 06 Nov 2094 12:00:00 GMT", MAX_RETRY_AFTER),
    ],
)
def test_retry_after(header: bytes | str, seconds: float) -> None:
    """Retry-After is read as seconds and as each of the three HTTP dates, within bounds."""
    assert retry_after(header, NOON) == seconds


@pytest.mark.parametrize(
    "header",
    [None, b"", b"soon", b"-5", b"1.5", b"1e3", b"5 s", b"120, 120", "²", "٣", b"\xff\x00", b"nan", b"inf"],
)
def test_retry_after_garbage(header: bytes | str | None) -> None:
    """A Retry-After that says nothing is ignored."""
    assert retry_after(header, NOON) is None


@given(
    st.text(max_size=60)
    | st.binary(max_size=60)
    | st.from_regex(r"\A[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d{1,3}:\d{1,3} ?[+-]?\w{0,6}\Z")
    | st.lists(
        st.sampled_from(["Sun", "Nov", "1994", "99999999", "12:00:00", ",", "-", "GMT", "+", ":", "0"])
    ).map(" ".join),
    st.floats(-1e12, 1e12),
)
def test_retry_after_never_fails(header: str | bytes, now: float) -> None:
    """Whatever a destination puts into Retry-After, the result is None or within bounds."""
    wait = retry_after(header, now)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER
