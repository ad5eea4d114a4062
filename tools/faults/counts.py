"""Counts of the fault suite: each message that was sent and accepted, and where it ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Set
from threading import Lock

from attrs import Factory, define, frozen


@frozen
class Deletion:
    """A queue that was deleted.

    :ivar open: the messages on their way to the queue meanwhile: RabbitMQ confirms them too, and they are in no count
    :ivar accepted: the messages that had been accepted by then
    :ivar count: how many were in the queue at most, ready or handed out
    """

    open: Set[str]
    accepted: Set[str]
    count: int


@frozen
class Row:
    """One row of the table: the counts of one kind of message under one fault.

    :ivar delivered: of the accepted ones, those that came where they should
    :ivar repeated: how often one came that had come before
    :ivar delayed: of the others, those that wait in a delay queue
    :ivar deleted: gone with a queue that was deleted
    :ivar lost: accepted, and nowhere
    :ivar p99: the 99th percentile of the seconds until the others came, without one that the destination refuses; for
        outbound messages until their requests were answered, which is after the broker's confirm
    :ivar recovered: the seconds from the end of a fault of the destination until all came that had waited for it; 0
        where none had
    """

    fault: str
    kind: str
    sent: int
    accepted: int
    delivered: int
    repeated: int
    parked: int
    delayed: int
    deleted: int
    lost: int
    p99: float
    recovered: float = 0


@define
class Counts:
    """The counts of one kind of message under one fault; several threads write in it.

    :ivar arrived: how often each came where it should: answered with 200, or found in the outbound queue
    :ivar refused: those that the destination refuses, each time
    :ivar delays: the seconds from the beginning until each came; of an outbound message, until its request ended
    """

    kind: str
    sent: set[str] = Factory(set)
    open: set[str] = Factory(set)
    accepted: set[str] = Factory(set)
    arrived: Counter[str] = Factory(Counter)
    parked: set[str] = Factory(set)
    delayed: set[str] = Factory(set)
    refused: set[str] = Factory(set)
    delays: dict[str, float] = Factory(dict)
    deletions: list[Deletion] = Factory(list)
    _begun: dict[str, float] = Factory(dict)
    _over: float | None = None
    _waiting: Set[str] = frozenset()
    _lock: Lock = Factory(Lock)

    def begin(self, name: str) -> None:
        """Note that ``name`` is about to be sent."""
        with self._lock:
            self.sent.add(name)
            self.open.add(name)
            self._begun[name] = time.monotonic()

    def end(self, name: str, accepted: bool) -> None:
        """Note that it was accepted (a 201, a confirm); or refused, or that neither is known."""
        with self._lock:
            self.open.discard(name)
            if accepted:
                self.accepted.add(name)
            if self.kind == "outbound":
                # Also of one that was not accepted: a request that waits for its 503 is held up as well.
                self.delays[name] = time.monotonic() - self._begun[name]

    def arrive(self, name: str) -> None:
        """Note that it came where it should."""
        with self._lock:
            self.arrived[name] += 1
            if name in self._begun:
                self.delays.setdefault(name, time.monotonic() - self._begun[name])

    def fault_is_over(self) -> None:
        """Note the end of a fault of the destination, and which messages wait for it."""
        with self._lock:
            self._over = time.monotonic()
            self._waiting = self.sent - self.arrived.keys()

    def _recovered(self) -> float:
        if self._over is None or self.kind == "outbound":
            return 0
        came = [self._begun[name] + self.delays[name] for name in self._waiting & self.delays.keys()]
        return round(max(came, default=self._over) - self._over, 3)

    def delete(self, delete: Callable[[], int]) -> None:
        """Have the queue deleted, and note that.

        :param delete: does it, and returns how many messages were in it
        """
        with self._lock:
            settled = self.sent - self.open
        count = delete()
        with self._lock:
            # Messages that were begun and confirmed meanwhile were on their way as well.
            self.deletions.append(Deletion(self.sent - settled, set(self.accepted), count))

    def missing(self) -> set[str]:
        """Return the messages that were accepted and not seen anywhere yet."""
        with self._lock:
            return self.accepted - self.arrived.keys() - self.parked - self.delayed

    def unaccepted(self) -> int:
        """Count the messages that came where they should, though their sender was told otherwise."""
        with self._lock:
            return len(self.arrived.keys() & self.sent - self.accepted)

    def missing_and_not_deleted(self) -> int:
        """Count the same, without those that can have gone with a queue."""
        return len(self.missing()) - self._gone()

    def _gone(self) -> int:
        missing = self.missing()
        on_its_way = {name for name in missing if any(name in each.open for each in self.deletions)}
        in_queue = {name for name in missing if any(name in each.accepted for each in self.deletions)}
        room = sum(each.count for each in self.deletions)
        return len(on_its_way) + min(room, len(in_queue - on_its_way))

    def _p99(self) -> float:
        delays = sorted(delay for name, delay in self.delays.items() if name not in self.refused)
        return round(delays[int((len(delays) - 1) * 0.99)], 3) if delays else 0

    def row(self, fault: str) -> Row:
        """Sum up the counts."""
        deleted = self._gone()
        arrived = self.accepted & self.arrived.keys()
        return Row(
            fault=fault,
            kind=self.kind,
            sent=len(self.sent),
            accepted=len(self.accepted),
            delivered=len(arrived),
            repeated=sum(self.arrived[name] - 1 for name in self.sent & self.arrived.keys()),
            parked=len(self.accepted & self.parked - arrived),
            delayed=len(self.accepted & self.delayed - arrived - self.parked),
            deleted=deleted,
            lost=len(self.missing()) - deleted,
            p99=self._p99(),
            recovered=self._recovered(),
        )
