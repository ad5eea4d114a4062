"""Places of a bulkhead: what an origin has shown, and the deliveries that have a place, or wait for one.

Tested by tests/unit/delivery/test_bulkhead.py.
"""

from __future__ import annotations

from enum import Enum

from attrs import define, field, frozen

QUICK = 0.5
"""Seconds of a quick delivery."""


class Standing(Enum):
    """What an origin did last: it answered, is not known yet, failed at once, or gave no answer in time."""

    ANSWERS, UNKNOWN, FAILS, HANGS = range(4)

    @property
    def failed(self) -> bool:
        return self in (Standing.FAILS, Standing.HANGS)


PARTS = {Standing.ANSWERS: 1.0, Standing.UNKNOWN: 0.5, Standing.FAILS: 0.25, Standing.HANGS: 0.25}
"""The part of the places that all origins of a standing have at most."""


@define(eq=False)
class Origin:
    """An origin of clients' URLs.

    :ivar seconds: of a delivery to it, where it answers
    :ivar held: places that its deliveries have
    :ivar waits: deliveries that wait for one
    :ivar returns: until when deliveries that found no place, or no answer, come again
    :ivar missed: whether some found no place while it wasn't known to answer
    :ivar still_since: the tick of its last answer, or when it had no place before
    :ivar group: that of its standing, while it is active
    """

    name: str
    standing: Standing = Standing.UNKNOWN
    seconds: float = 0.0
    held: int = 0
    waits: int = 0
    returns: float = 0.0
    missed: bool = False
    still_since: int = 0
    group: Group | None = None

    @property
    def is_quick(self) -> bool:
        return self.standing is Standing.ANSWERS and self.seconds < QUICK

    def answered(self, seconds: float) -> None:
        """Note that a delivery took so long."""
        if self.standing is Standing.ANSWERS:
            seconds = (3 * self.seconds + seconds) / 4
        self.standing, self.seconds = Standing.ANSWERS, seconds

    def failed(self, *, hung: bool) -> None:
        """Note that a delivery failed."""
        self.standing, self.seconds = Standing.HANGS if hung else Standing.FAILS, 0.0

    def join(self, group: Group | None) -> None:
        """Be active in this group, or in none."""
        if group is not self.group:
            if self.group is not None:
                self.group.active.discard(self)
            if group is not None:
                group.active.add(self)
            self.group = group


@define
class Group:
    """The places of all origins of a standing.

    :ivar held: those that are taken
    :ivar active: the origins that have places, wait for some, or come again
    :ivar still_since: the tick of their last answer, or when none was taken before
    """

    limit: int
    held: int = 0
    active: set[Origin] = field(factory=set)
    still_since: int = 0


@frozen
class Place:
    """A place, of an origin that had this standing when it was taken, at ``since``."""

    origin: Origin
    standing: Standing
    quick: bool
    since: float


@define
class Waiting:
    """A delivery that waits for a place; ``late`` where it gets none soon."""

    origin: Origin
    ticks: int = 0
    late: bool = False
