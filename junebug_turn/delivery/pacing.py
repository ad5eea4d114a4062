"""Pace of the deliveries to one URL base: they keep to the quota that its service states, and to the configured one.

It is the policy only, which delivery may make a call, and when.  Calls are in ``attempt``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from junebug_turn.delivery.quota import pause, stated_quota
from junebug_turn.delivery.rate import DeliveryRate
from junebug_turn.delivery.retry import MAX_RETRY_AFTER, retry_after
from junebug_turn.delivery.shared_quota import QuotaStore, SharedQuota
from junebug_turn.net.clocks import WallClock

TURN_LIMIT = MAX_RETRY_AFTER + 30
"""The most seconds that a delivery waits in place for its turn; then it is put off.  Longer than any pause that a
service asks for."""

UNLIMITED = 20
"""Calls at once with which the caution after a 429 ends, where the service states no quota."""

EVENTS_BEHIND = 5.0
"""Seconds after an inbound message had to wait in which no event that waits goes before an inbound message that comes
when another one is done: the broker holds more of them back."""

SUCCESSION = 0.5
"""Seconds of these in which the next one comes, after the end of the last one under way."""

SAME_WINDOW = 1.0
"""Seconds that two statements about the end of one window can differ by: they are rounded."""

_TICK = 0.001


INBOUND = "inbound"


class NoTurn(Exception):
    """No call can be made within the time that there was to wait."""


@frozen
class _Waiting:
    connector: str
    kind: str
    since: float
    again: bool


class Pace:
    """Pace of the calls to one URL base, with the deliveries that wait for their turn.

    Each call begins with ``enter`` and ends with ``end`` or ``release``.  Inbound messages go before events and
    statuses, and each of both in the order in which they came.

    A call of the configured quota counts until ``seconds`` after its end, when the service has surely counted it.  Of
    the service's own quota (``X-Ratelimit-Remaining``) the calls under way are taken off, as it may not have counted
    them.  When its window is over, or the pause that a 429 asks for, one call is made alone: its answer states the
    new quota; where it doesn't, each success lets one more go at once.

    :ivar origin: ``scheme://host:port``
    :ivar rate: the configured quota
    :ivar users: how many deliveries know this pace; maintained by ``Paces``
    """

    log = Logger()

    def __init__(self, clock: Any, wall_clock: WallClock, origin: str) -> None:
        self.clock = clock
        self.wall_clock = wall_clock
        self.origin = origin
        self.rate: DeliveryRate | None = None
        self.shared: SharedQuota | None = None
        self.users = 0
        self._running = self._inbound = 0
        # Until then events stay behind the inbound messages that are under way, or follow one that was.
        self._inbound_until = self._succession_until = 0.0
        self._counted: deque[float] = deque()  # the times at which calls count no more
        self._remaining: int | None = None  # calls that the service takes, until ``_until``
        self._until = 0.0
        self._limited = False  # by a 429
        self._pauses = 0
        # In the order of their turns: inbound messages, and all others.
        self._queues: tuple[OrderedDict[Deferred[None], _Waiting], ...] = (OrderedDict(), OrderedDict())
        self._alarm: Any = None
        self._stopped = False

    @property
    def waiting(self) -> Iterator[_Waiting]:
        """The deliveries that wait for their turn."""
        for queue in self._queues:
            yield from queue.values()

    @property
    def idle(self) -> bool:
        """Whether it can be forgotten."""
        now = self.clock.seconds()
        return not (self._remaining is not None or any(end > now for end in self._counted))

    def enter(
        self, connector: str, kind: str, deadline: float, *, again: bool = False
    ) -> Deferred[None] | None:
        """Begin a call: at once (None), or when the Deferred fires.

        :param again: after a 429, with which it has lost its turn: it goes before those that wait
        :raises NoTurn: (in the Deferred) not before ``deadline``
        """
        now = self.clock.seconds()
        inbound, others = self._queues
        if not (inbound or (others and kind != INBOUND)) and self._delay(now) == 0:
            self._begin(kind)
            return None

        def leave(_: Deferred[None]) -> None:
            del queue[turn]
            self._set_alarm()

        def expire() -> None:
            leave(turn)
            turn.errback(NoTurn())

        def ended(result: Any) -> Any:
            if limit.active():
                limit.cancel()
            return result

        queue = inbound if kind == INBOUND else others
        turn: Deferred[None] = Deferred(leave)
        turn.addBoth(ended)
        limit = self.clock.callLater(max(0.0, deadline - now), expire)
        queue[turn] = _Waiting(connector, kind, now, again)
        if again:
            for other in [other for other, waiting in queue.items() if not waiting.again]:
                queue.move_to_end(other)
        self._set_alarm()
        if self._stopped:
            turn.cancel()
        return turn

    def release(self, kind: str) -> None:
        """End a call that was not made."""
        self._begin(kind, -1)
        if self.shared is not None:
            self.shared.give_back()
        self._wake()

    def end(self, kind: str, response: IResponse | None) -> None:
        """End a call, whose answer is ``response``; None: there was none."""
        now = self.clock.seconds()
        self._begin(kind, -1)
        if self.rate is not None:
            self._counted.append(now + self.rate.seconds)
        if response is not None:
            self._note(response.code, response.headers, now)
        elif self._remaining:
            # The service may have counted it.
            self._remaining -= 1
        self._wake()

    def stop(self) -> None:
        """Cancel the deliveries that wait, now and from now on."""
        self._stopped = True
        for queue in self._queues:
            for turn in tuple(queue):
                turn.cancel()

    def _begin(self, kind: str, change: int = 1) -> None:
        self._running += change
        if self.shared is not None and change > 0:
            self.shared.use()
        if kind == INBOUND:
            self._inbound += change
            self._succession_until = self.clock.seconds() + SUCCESSION

    def _delay(self, now: float) -> float | None:
        """Return the seconds until a call may be made; None: until another one has ended."""
        if self._remaining is not None:
            if now < self._until:
                if self._running >= self._remaining:
                    return self._until - now
            elif self._running >= max(1, self._remaining):
                return None
        if self.rate is not None:
            while self._counted and self._counted[0] <= now:
                self._counted.popleft()
            if self._running + len(self._counted) >= self.rate.calls:
                return self._counted[0] - now if self._counted else None
            if self.shared is not None:
                return self.shared.delay(self.rate, sum(map(len, self._queues)))
        return 0

    def share(self, store: QuotaStore, url_base: str) -> None:
        """Keep to the configured quota together with other processes, from now on."""
        if self.shared is None:
            self.shared = SharedQuota(self.clock, store, url_base, self._wake)

    def _note(self, status: int, headers: Headers, now: float) -> None:
        """Heed what an answer says of the service's quota."""
        remaining, reset = stated_quota(headers, self.wall_clock.now())
        if status == 429:
            asked = retry_after(headers.getRawHeaders(b"Retry-After", [None])[0], self.wall_clock.now())
            self._pause(reset if asked is None else asked, now)
            return
        self._pauses = 0
        over = now >= self._until
        if remaining is not None and reset is not None:
            until = now + reset
            known = self._remaining is not None and not over
            if known and (self._limited or abs(until - self._until) <= SAME_WINDOW):
                # Answers can overtake each other.
                self._remaining = min(self._remaining or 0, remaining)
            else:
                self._remaining, self._until, self._limited = remaining, until, False
        elif self._remaining is not None and over:
            self._remaining = max(1, self._remaining) + 1
            if self._remaining > UNLIMITED:
                self._remaining = None
        elif self._remaining:
            self._remaining -= 1

    def _pause(self, asked: float | None, now: float) -> None:
        """Make no call for as long as a 429 asks, and longer each time that it comes again."""
        if not self._limited or now >= self._until:
            self._pauses += 1
        wait = pause(asked, self._pauses)
        if not self._limited or now >= self._until:
            self.log.warn(
                "{origin} takes no more calls (HTTP status 429): the next one is made in {delay:.0f} s",
                origin=self.origin,
                delay=wait,
            )
        self._until = max(now + wait, self._until if self._limited else 0.0)
        self._remaining, self._limited = 0, True

    def _wake(self) -> None:
        inbound, others = self._queues
        now = self.clock.seconds()
        while (inbound or others) and self._next_delay(now) == 0:
            if inbound:
                self._inbound_until = now + EVENTS_BEHIND
            queue = inbound or others
            turn = next(iter(queue))
            self._begin(queue.pop(turn).kind)
            turn.callback(None)
        self._set_alarm()

    def _next_delay(self, now: float) -> float | None:
        """Return the same for the delivery that is next among those that wait."""
        delay = self._delay(now)
        if delay is None or self._queues[0]:
            return delay
        until = self._inbound_until if self._inbound else min(self._inbound_until, self._succession_until)
        return max(delay, until - now)

    def _set_alarm(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
        if any(self._queues):
            delay = self._next_delay(self.clock.seconds())
            if delay is not None:
                # Later by a little: a sum of floats can be below the time that it stands for.
                self._alarm = self.clock.callLater(delay + _TICK, self._wake)
