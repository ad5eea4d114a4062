"""Quota that a service states in its answers; ``rate`` has the configured one."""

from __future__ import annotations

from contextlib import suppress

from twisted.web.http import stringToDatetime
from twisted.web.http_headers import Headers

from junebug_turn.delivery.retry import MAX_RETRY_AFTER

MAX_BACKOFF = 60.0
"""The most seconds without a call after a 429 that says nothing of time; the first such pause has 1 s."""

_EPOCH = 10**8  # A larger X-Ratelimit-Reset is a date in Unix seconds.


def pause(asked: float | None, times: int) -> float:
    """Return the seconds without a call after the last of so many 429 in a row, which asked for ``asked`` of them."""
    return max(asked or 0.0, min(MAX_BACKOFF, 2.0 ** (min(times, 10) - 1)))


def stated_quota(headers: Headers, now: float) -> tuple[int | None, float | None]:
    """Read the calls that the service takes, and the seconds until its window is over."""
    remaining, reset = (
        float(value) if value.isdigit() and len(value) < 15 else None
        for value in (
            headers.getRawHeaders(f"X-Ratelimit-{name}".encode(), [b""])[0].strip()
            for name in ("Remaining", "Reset")
        )
    )
    if reset is not None:
        if reset > 1000 * _EPOCH:
            reset /= 1000
        if reset > _EPOCH:
            # By the service's own clock, which may differ from ours.
            with suppress(ValueError, IndexError, OverflowError):
                now = float(stringToDatetime(headers.getRawHeaders(b"Date", [b""])[0]))
            reset -= now
        reset = min(max(0.0, reset), MAX_RETRY_AFTER)
    return None if remaining is None else int(remaining), reset
