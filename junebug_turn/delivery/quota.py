"""Quota of a service: the configured one, and the one that its answers state."""

from __future__ import annotations

from contextlib import suppress

from attrs import frozen
from twisted.web.http import stringToDatetime
from twisted.web.http_headers import Headers

from junebug_turn.config.scalars import number
from junebug_turn.config.types import DAY, ValueType
from junebug_turn.delivery.retry import MAX_RETRY_AFTER

_EPOCH = 10**8  # A larger X-Ratelimit-Reset is a date in Unix seconds.


@frozen
class DeliveryRate:
    """A quota: so many calls within so many seconds."""

    calls: int
    seconds: float


def _delivery_rate(value: object) -> DeliveryRate:
    if not isinstance(value, dict) or set(value) != {"calls", "seconds"}:
        raise ValueError("must be a mapping with calls and seconds")
    calls, seconds = number(value["calls"]), number(value["seconds"])
    if not isinstance(calls, int) or isinstance(calls, bool) or not 1 <= calls <= 10**6:
        raise ValueError("must have a whole number from 1 to 1000000 as calls")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= DAY:
        raise ValueError(f"must have a number above 0 and at most {DAY} as seconds")
    return DeliveryRate(calls, float(seconds))


DELIVERY_RATE = ValueType(
    "mapping of calls and seconds",
    _delivery_rate,
    from_yaml=True,
    shown=lambda rate: f"{{calls: {rate.calls}, seconds: {rate.seconds:g}}}",
)


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
