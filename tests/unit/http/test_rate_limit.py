"""The rate limit of an API."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.errors import RateLimited
from junebug_turn.http.rate_limit import RateLimit


def refused(limit: RateLimit) -> float | None:
    try:
        limit.take()
    except RateLimited as error:
        return error.retry_after
    return None


def test_rate() -> None:
    """A second's worth of requests is taken at once, then as many as the rate gives; it says when the next is."""
    clock: Any = Clock()
    limit = RateLimit(clock, 4)
    assert [refused(limit) for _ in range(5)] == [None] * 4 + [0.25]
    clock.advance(0.25)
    assert refused(limit) is None
    assert refused(limit) == 0.25
    clock.advance(1000)
    assert [refused(limit) for _ in range(5)] == [None] * 4 + [0.25]


def test_slow_rate() -> None:
    """A rate below one a second takes one request at a time."""
    clock: Any = Clock()
    limit = RateLimit(clock, 0.1)
    assert refused(limit) is None
    assert refused(limit) == pytest.approx(10)
    clock.advance(10.001)
    assert refused(limit) is None


def test_no_rate() -> None:
    """Without the option every request is taken."""
    limit = RateLimit(Clock(), None)
    assert [refused(limit) for _ in range(1000)] == [None] * 1000


def test_clock_that_is_set_back() -> None:
    """A clock that is set back neither gives nor takes tokens."""
    clock: Any = Clock()
    clock.advance(100)
    limit = RateLimit(clock, 2)
    assert refused(limit) is None
    clock.rightNow = 50
    assert refused(limit) is None
    assert refused(limit) == 0.5
