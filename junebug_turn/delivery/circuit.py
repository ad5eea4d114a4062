"""Circuit breaker: a destination that is down is probed now and then, not by every delivery all the time.

It is the policy only, which deliveries may make an attempt, and when.  Attempts are in ``attempt``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from junebug_turn.delivery.backoff import Backoff
from junebug_turn.net.clocks import WALL_CLOCK, WallClock

FAILURES = 5
"""Different messages that fail in a row, with no success between, until a destination is in doubt."""

PROOF = 8
"""Probes that then have to fail as well until its circuit opens.  A row of failures alone proves nothing: after a stall
of the daemon or of the host, the retries of many refused messages are due in one moment, and leave no room for a
success between."""

DOUBT = 0.125
"""Seconds between the beginnings of two of these probes."""

SUSPECT = 2
"""Different messages that have failed in a row, from which on only few attempts are made at once."""

MAX_FAILED = 100
"""Failed messages that a circuit remembers at most."""

HANGING = 5.0
"""Seconds after which a probe without an answer keeps no other from being made: the destination may be back, while the
probe waits for an answer that was lost."""

PROBATION = 5
"""Successes until the delays of a circuit that was open begin with the shortest again: a destination that fails again
as soon as it is back is left alone for longer and longer."""

_WOKEN = 2


class CircuitOpen(Exception):
    """No attempt can be made within the time that there was to wait."""


class Circuit:
    """Circuit of one origin or URL, with the deliveries that wait for it.

    Each attempt begins with ``enter`` and ends with one of ``succeeded``, ``failed`` and ``released``.

    Failures count by message: one that the destination refuses again and again says nothing about the destination, and
    holds up no other.  A closed circuit lets every attempt pass; but as long as different messages have failed, or it
    was open lately, only few at once: a destination that hangs must not use up the places of others.  When many have
    failed in a row, the destination is in doubt, and probes follow in quick succession; when they fail too, the
    circuit is open, with one probe at a time, and another one where that hangs.  A probe is made by the delivery that
    has waited longest, those first whose message has not failed, or by the first that comes when the time is over.
    After a success the waiting deliveries go on in order, few at first: each success lets two more go.

    :param rng: gives numbers in [0, 1)
    :param suspect_limit: how many attempts are made at once while there is some doubt
    :ivar origin: ``scheme://host:port``
    :ivar users: how many deliveries know this circuit; kept by ``Circuits``
    :ivar touched: when it last failed
    :ivar fault: the failure that opened it, in words
    :ivar open_since: when it opened, in Unix seconds; None while it is closed
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        rng: Callable[[], float],
        origin: str,
        *,
        suspect_limit: int,
        wall_clock: WallClock = WALL_CLOCK,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._suspect_limit = suspect_limit
        self.origin = origin
        self.users = 0
        self.touched: float = clock.seconds()
        self.fault = ""
        self.open_since: float | None = None
        self._running = 0
        # The messages that failed since the last success, in order.
        self._failed: OrderedDict[Hashable, None] = OrderedDict()
        self._probation = 0
        self._backoff = Backoff(rng)
        self._probes = 0  # under way
        self._proof = 0
        self._probe_at = 0.0
        self._probe_began = 0.0
        self._opened_at = 0.0
        self._alarm: Any = None
        # In the order of arrival, with their messages; each fires with whether it is the probe.
        self._waiting: OrderedDict[Deferred[bool], Hashable] = OrderedDict()
        self._pauses: set[Deferred[None]] = set()
        self._stopped = False

    @property
    def is_open(self) -> bool:
        return self.open_since is not None

    @property
    def healthy(self) -> bool:
        """Whether it is closed, without recent failures, and can be forgotten."""
        return not (self.is_open or self._failed or self._probation)

    @property
    def _suspect(self) -> bool:
        return len(self._failed) >= SUSPECT or self._probation > 0

    @property
    def asking(self) -> bool:
        """Whether attempts are made by probes only: it is open or in doubt."""
        return len(self._failed) >= FAILURES

    @property
    def _next_probe(self) -> float | None:
        """When the next probe may begin; None while there is none."""
        if not self.asking or self._probes >= self._suspect_limit:
            return None
        return self._probe_began + HANGING if self.is_open and self._probes else self._probe_at

    # before an attempt

    async def enter(self, deadline: float, message: Hashable) -> bool:
        """Wait until an attempt may be made; returns whether it is the probe.

        :param message: the identity of the message, the same at each of its attempts
        :param deadline: when the wait is over at the latest; one that is past means not to wait
        :raises CircuitOpen: the time is over
        """
        now = self._clock.seconds()
        patient = deadline > now
        # No delivery overtakes those that wait, but one without patience, which doesn't wait at all.
        first = not (patient and self._waiting)
        probe_at = self._next_probe
        if probe_at is not None and not self._waiting and now >= probe_at:
            self._begin_probe()
            return True
        held = self.is_open or (patient and self.asking)
        if not held and first and not (self._suspect and self._running >= self._suspect_limit):
            self._running += 1
            return False
        if not patient:
            raise CircuitOpen()
        if self._stopped:
            raise CancelledError()
        return await self._wait(deadline - now, message)

    async def _wait(self, seconds: float, message: Hashable) -> bool:
        def expire() -> None:
            del self._waiting[waiting]
            waiting.errback(CircuitOpen())

        def leave(_: Deferred[bool]) -> None:
            del self._waiting[waiting]

        waiting: Deferred[bool] = Deferred(leave)
        self._waiting[waiting] = message
        self._set_alarm()
        limit = self._clock.callLater(seconds, expire)
        try:
            return await waiting
        finally:
            if limit.active():
                limit.cancel()
            self._set_alarm()

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts of one delivery; the wait is over at once when the circuit opens."""
        pause: Deferred[None] = Deferred()
        end = self._clock.callLater(seconds, pause.callback, None)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            self._pauses.discard(pause)
            if end.active():
                end.cancel()

    def stop(self) -> None:
        """Cancel the deliveries that wait, now and from now on."""
        self._stopped = True
        for waiting in tuple(self._waiting):
            waiting.cancel()

    # after an attempt

    def succeeded(self, probe: bool) -> None:
        """End an attempt that was answered."""
        self._ended(probe)
        self._failed.clear()
        self._proof = 0
        if self.is_open:
            self.log.info("{origin} answers again: its circuit is closed", origin=self.origin)
            self.open_since = None
            self._probation = PROBATION
        elif self._probation:
            self._probation -= 1
        if not self._probation:
            self._backoff.reset()
        self._set_alarm()
        self._wake(_WOKEN)

    def failed(self, probe: bool, fault: str, message: Hashable | None, *, not_before: float = 0) -> None:
        """End an attempt that failed in a way that may pass.

        :param message: its message; a failure of one that has failed since the last success counts no further.  None:
            the message can't be the cause, so that each such attempt counts, and there is no doubt
        :param not_before: seconds that the destination wants to be left alone
        """
        self._ended(probe)
        in_doubt = self.asking
        self._failed[object() if message is None else message] = None
        if len(self._failed) > MAX_FAILED:
            self._failed.popitem(last=False)
        self.touched = self._clock.seconds()
        # An attempt that began before the doubt, or before the circuit opened, says nothing new.
        self._proof += PROOF if message is None else probe
        if self.is_open:
            if probe and not self._probes:
                self._back_off(fault, not_before)
        elif not self.asking:
            self._wake(1)
        elif self._proof >= PROOF:
            self._open(fault, not_before)
        else:
            if not in_doubt:
                self._probe_at = self.touched + DOUBT
            self._set_alarm()

    def released(self, probe: bool) -> None:
        """End an attempt that was not made, or says nothing about this circuit."""
        self._ended(probe)
        self._set_alarm()
        self._wake(1)

    def _ended(self, probe: bool) -> None:
        self._running -= 1
        self._probes -= probe

    def _open(self, fault: str, not_before: float) -> None:
        self.open_since = self._wall_clock.now()
        self._opened_at = self._clock.seconds()
        self._back_off(fault, not_before)
        self.log.warn(
            "The circuit of {origin} is open: {fault}; next probe in {delay:.1f} s",
            origin=self.origin,
            fault=fault,
            delay=self._probe_at - self.touched,
        )
        for pause in tuple(self._pauses):
            pause.callback(None)

    def _back_off(self, fault: str, not_before: float) -> None:
        self.fault = fault
        now = self._clock.seconds()
        self._probe_at = now + self._backoff.next(now - self._opened_at, not_before)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Wake the next probe at its time, if a delivery waits."""
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
        probe_at = self._next_probe
        if self._waiting and probe_at is not None:
            delay = max(0.0, probe_at - self._clock.seconds())
            self._alarm = self._clock.callLater(delay, self._probe)

    def _begin_probe(self) -> None:
        self._probes += 1
        self._running += 1
        self._probe_began = self._clock.seconds()
        if not self.is_open:
            self._probe_at = self._probe_began + DOUBT

    def _probe(self) -> None:
        self._begin_probe()
        # A message that the destination refuses would keep the circuit open for all others.
        fresh = (waiting for waiting, message in self._waiting.items() if message not in self._failed)
        probe = next(fresh, None) or next(iter(self._waiting))
        del self._waiting[probe]
        probe.callback(True)

    def _wake(self, count: int) -> None:
        # A delivery that is woken may open the circuit again, in this very call.
        while count and self._waiting and not self.asking:
            count -= 1
            self._running += 1
            self._waiting.popitem(last=False)[0].callback(False)
