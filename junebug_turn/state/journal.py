"""Journal of messages: the steps of each message through the daemon, kept where the messages are, for a trace.

A step costs no operation of the store: the steps of a second are written together.  What was noted in the last second
is lost with the process; the messages themselves are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from attrs import Factory, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from junebug_turn.errors import CacheError
from junebug_turn.messages import strictjson
from junebug_turn.net.clocks import WALL_CLOCK, WallClock

WRITE_INTERVAL = 1.0
"""Seconds for which steps are gathered."""

MAX_WAITING = 20_000
"""Messages whose steps wait to be written, of one connector, at most; what is over is not kept."""

AT_ONCE = 500
"""Messages whose steps are written by one operation."""

MAX_BYTES = 8192
"""Bytes of the steps of one message; the oldest go first, but for the half that is newer."""

MAX_ID = 100
"""Characters of an event's id in a step."""

ACCEPTED, PUBLISHED, NOT_PUBLISHED = "accepted", "published", "not_published"
RECEIVED, DELIVERED, DEFERRED, DELAYED, PARKED = "received", "delivered", "deferred", "delayed", "parked"
NOT_FORWARDED = "not_forwarded"


@frozen
class Step:
    """A step of a message.

    :ivar at: when, in Unix seconds
    :ivar name: one of the words above
    :ivar details: ``event_id`` where it is the step of an event of the message; no address, no text
    """

    at: float
    name: str
    details: Mapping[str, Any] = Factory(dict)


class JournalEntries:
    """Steps of the messages of one connector, as a store keeps them; this base keeps none."""

    async def append(self, lines: Mapping[str, bytes]) -> None:
        """Add lines to those of each message.

        :param lines: message id -> whole lines
        :raises CacheError: the store can't write now
        """

    async def fetch(self, message_id: str) -> bytes:
        """Return the lines of a message; empty where none are known.

        :raises CacheError: the store can't read now
        """
        return b""


class JournaledStore(Protocol):
    """The part of a message store that a journal uses."""

    def journal_entries(self) -> JournalEntries:
        """Return the steps of the connector's messages."""


def shortened(lines: bytes) -> bytes:
    """Return lines without the oldest, where they are over ``MAX_BYTES``."""
    if len(lines) <= MAX_BYTES:
        return lines
    return lines[lines.index(b"\n", -MAX_BYTES // 2) + 1 :]


def read_steps(lines: bytes) -> list[Step]:
    """Read the lines of a message, in order; one that can't be read is left out."""
    steps = []
    for line in lines.splitlines():
        with suppress(ValueError, TypeError):
            at, name, *rest = strictjson.loads_stored(line)
            (details,) = rest or ({},)
            steps.append(Step(float(at), str(name), dict(details)))
    return sorted(steps, key=lambda step: step.at)


class Journals:
    """The journals of a daemon, which are written together.

    :param clock: the reactor
    :param wall_clock: dates the steps
    """

    def __init__(self, clock: Any, wall_clock: WallClock = WALL_CLOCK) -> None:
        self._clock = clock
        self._now = wall_clock.now
        self._unwritten: dict[Journal, None] = {}
        self._timer: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None

    def of(self, store: JournaledStore) -> Journal:
        """Return the journal of the connector whose store this is."""
        return Journal(store.journal_entries(), self._now, self._schedule)

    async def write(self) -> None:
        """Write all steps that were noted; those that a store doesn't take now are not kept."""
        while self._writing is not None:
            under_way: Deferred[None] = Deferred()
            self._writing.chainDeferred(under_way)
            await under_way
        self._cancel()
        await self._begin()

    def _schedule(self, journal: Journal) -> None:
        self._unwritten[journal] = None
        if self._timer is None and self._writing is None:
            self._timer = self._clock.callLater(WRITE_INTERVAL, self._begin)

    def _begin(self) -> Deferred[None]:
        self._timer = None
        writing = Deferred.fromCoroutine(self._write())
        self._writing = None if writing.called else writing
        return writing

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _write(self) -> None:
        try:
            unwritten, self._unwritten = self._unwritten, {}
            for journal in unwritten:
                await journal.write()
        finally:
            self._writing = None
            if self._unwritten and self._timer is None:
                self._timer = self._clock.callLater(WRITE_INTERVAL, self._begin)


class Journal:
    """The journal of one connector.

    :param has_more: called with the journal when it has steps to write
    """

    def __init__(
        self, entries: JournalEntries, now: Callable[[], float], has_more: Callable[[Journal], None]
    ) -> None:
        self._entries = entries
        self._now = now
        self._has_more = has_more
        self._waiting: dict[str, bytes] = {}

    def note(self, message_id: str, step: str, details: Mapping[str, Any] | None = None) -> None:
        """Note a step of a message, now."""
        if details:
            line = strictjson.dumps([round(self._now(), 3), step, details]) + b"\n"
        else:
            line = b'[%.3f,"%s"]\n' % (self._now(), step.encode("ascii"))
        waiting = self._waiting
        before = waiting.get(message_id)
        if before is not None:
            waiting[message_id] = shortened(before + line)
        elif len(waiting) < MAX_WAITING:
            if not waiting:
                self._has_more(self)
            waiting[message_id] = line

    async def write(self) -> None:
        """Write what was noted."""
        waiting, self._waiting = list(self._waiting.items()), {}
        for start in range(0, len(waiting), AT_ONCE):
            with suppress(CacheError):  # the store's own warning says that it is away
                await self._entries.append(dict(waiting[start : start + AT_ONCE]))
