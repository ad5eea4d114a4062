"""Places of a bulkhead: what an origin has shown, and the deliveries that have a place, or wait for one.

Tested by tests/unit/delivery/test_bulkhead.py.
"""

from __future__ import annotations

from enum import Enum

from attrs import define, frozen


class Standing(Enum):
    """What an origin did last: it answered, is not known yet, failed at once, or gave no answer in time."""

    ANSWERS, UNKNOWN, FAILS, HANGS = range(4)


PARTS = {Standing.ANSWERS: 1.0, Standing.UNKNOWN: 0.5, Standing.FAILS: 0.25, Standing.HANGS: 0.25}
"""The part of the places that all origins of a standing have at most."""


@frozen
class Place:
    """A place, of an origin with this standing, that was taken at ``since``."""

    standing: Standing
    quick: bool
    since: float


@define
class Waiting:
    """A delivery that waits for a place; ``first`` where no other of its origin was there when it came."""

    origin: str
    first: bool
    ticks: int = 0
