"""Count of calls within a sliding window of time, in slots: its size doesn't depend on the number of calls."""

from __future__ import annotations

from typing import TypeAlias

from junebug_turn.delivery.shared_quota import MARGIN

SLOTS = 60
"""Slots in the quota's time: a call counts for up to so small a part of that time longer."""

Slots: TypeAlias = dict[int, int]
"""The number of a slot, by Unix time, and the calls that are counted in it."""


def kept_for(seconds: float) -> float:
    """Return the seconds for which a slot counts since a call was taken, at most."""
    return seconds * (1 + MARGIN + 1 / SLOTS)


def take(slots: Slots, now: float, calls: int, seconds: float, wanted: int) -> tuple[Slots, int, float]:
    """Take as many of the calls as are wanted, or as there are.

    A call that is taken now, and that the service counts within ``MARGIN`` of the time, counts for at least ``seconds``
    since then.  The script ``TAKE_CALLS`` of Redis does the same.

    :return: the slots afterwards; the number of calls taken; where it is 0, the seconds until there are more
    """
    width = seconds / SLOTS
    latest = now + kept_for(seconds)
    # One that ends later is from before the clock was set back.
    ends = {slot: (slot + 1) * width + seconds for slot in slots}
    live = {slot: count for slot, count in slots.items() if now < ends[slot] <= latest + width}
    taken = max(0, min(wanted, calls - sum(live.values())))
    if not taken:
        return live, 0, min(ends[slot] for slot in live) - now
    slot = int((now + seconds * MARGIN) / width)
    live[slot] = live.get(slot, 0) + taken
    return live, taken, 0.0
