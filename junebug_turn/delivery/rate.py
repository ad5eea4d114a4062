"""Configured quota of a service.  Reading options is quick: this loads nothing of Twisted."""

from __future__ import annotations

from attrs import frozen

from junebug_turn.config.scalars import number
from junebug_turn.config.types import DAY, ValueType


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
