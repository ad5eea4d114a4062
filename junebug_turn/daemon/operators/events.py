"""Operator events: changes of the broker, the consumers, the circuits and the parked messages, seen every second.

They are compared with what was there before, so that no part of the daemon has to report to another.  Tested by
tests/integration/test_operator_events.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.iweb import IPolicyForHTTPS

from junebug_turn.delivery.circuits import OF_CLIENTS
from junebug_turn.telemetry.metrics import Parked

INTERVAL = 1.0
"""Seconds between two looks."""

BROKER_PATIENCE = 2.0
"""Seconds without the broker until it counts as away."""

CONSUMER_PATIENCE = 5.0
"""Seconds without a consumer, while the broker is there, until it counts as lost: it is started again by itself."""

PARKED_INTERVAL = 10.0
"""Seconds between two events of parked messages; those of the meantime are summed up."""

MAX_PARKED = 100
"""Entries of the counts in one event."""


class Sender(Protocol):
    """Sender of events: ``Notifier``, whose methods these are."""

    def send(self, kind: str, text: str, *, minor: bool = False, **details: Any) -> None: ...

    def use_secrets(self, secrets: str | tuple[str, ...] | None) -> None: ...

    def use_tls(self, policy: IPolicyForHTTPS) -> None: ...

    async def stop(self) -> None: ...


class OperatorEvents(Service):
    """Watch over the daemon, that sends events.

    :param broker: returns the broker's state: ``Broker.status``
    :param circuits: returns the open circuits: ``Deliverer.degraded``
    :param parked: returns the counts of messages that were parked since the last call
    :ivar notifier: sends the events
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        notifier: Sender,
        *,
        broker: Callable[[], Mapping[str, Any]],
        circuits: Callable[[], Mapping[str, Mapping[str, Any]]],
        parked: Callable[[], Parked],
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._circuits = circuits
        self._parked = parked
        self.notifier = notifier
        self._send = notifier.send
        self._looking = LoopingCall(self.look)
        self._looking.clock = clock
        self._connected = 0.0
        self._away = False
        # Consumer -> when it was last live; those that are lost.
        self._live: dict[str, float] = {}
        self._lost: set[str] = set()
        self._open: dict[str, str] = {}
        self._summed = -PARKED_INTERVAL

    def startService(self) -> None:
        """Look from now on."""
        super().startService()
        self._connected = self._clock.seconds()
        self._looking.start(INTERVAL, now=False).addErrback(self._failed)

    def stop_looking(self) -> None:
        """Look no more, since the daemon's own end is no event."""
        if self._looking.running:
            self._looking.stop()

    def stopService(self) -> Deferred[None]:
        """Sum up the messages that were parked at the end, and end the sending."""
        super().stopService()
        self.stop_looking()
        self._sum_up_parked()
        return Deferred.fromCoroutine(self.notifier.stop())

    def _failed(self, failure: Any) -> None:
        self.log.failure("operator events end", failure=failure)

    def look(self) -> None:
        """Send an event for each change since the last look."""
        now = self._clock.seconds()
        self._look_at_broker(now)
        self._look_at_circuits()
        if now - self._summed >= PARKED_INTERVAL and self._sum_up_parked():
            self._summed = now

    def _look_at_broker(self, now: float) -> None:
        status = self._broker()
        if not status["connected"]:
            # Without it no consumer lives: that is one event, and not one for each.
            self._live = dict.fromkeys(status["consumers"], now)
            if not self._away and now - self._connected >= BROKER_PATIENCE:
                self._away = True
                self._send("broker_away", "The AMQP broker is away: no message comes or goes.")
            return
        self._connected = now
        if self._away:
            self._away = False
            self._live = dict.fromkeys(status["consumers"], now)
            self._send("broker_back", "The AMQP broker is back.")
        for name, live in status["consumers"].items():
            if live:
                self._live[name] = now
                if name in self._lost:
                    self._lost.remove(name)
                    self._send("consumer_back", f"The queue {name} is consumed again.", queue=name)
            elif name not in self._lost and now - self._live.setdefault(name, now) >= CONSUMER_PATIENCE:
                self._lost.add(name)
                text = f"The queue {name} is not consumed, though the broker is there: its messages wait."
                self._send("consumer_lost", text, queue=name)
        self._lost &= status["consumers"].keys()
        self._live = {name: self._live[name] for name in status["consumers"]}

    def _look_at_circuits(self) -> None:
        found = {name: str(state["fault"]) for name, state in self._circuits().items()}
        for name in found.keys() - self._open.keys():
            text = f"{name} can't be delivered to: {found[name]}. Its messages wait."
            self._send("circuit_opened", text, minor=_is_clients(name), destination=name, fault=found[name])
        for name in self._open.keys() - found.keys():
            text = f"{name} answers again. Messages for it are delivered."
            self._send("circuit_closed", text, minor=_is_clients(name), destination=name)
        self._open = found

    def _sum_up_parked(self) -> bool:
        """Send an event for the messages that were parked; returns whether there were any."""
        counts = self._parked()
        if not counts:
            return False
        found = [
            {"connector": connector, "kind": kind, "reason": reason, "count": count}
            for (connector, kind, reason), count in sorted(counts.items())
        ]
        total = sum(counts.values())
        parts = (
            f"{count} {kind} of {connector} ({reason})"
            for (connector, kind, reason), count in counts.most_common(5)
        )
        more = ", ..." if len(counts) > 5 else ""
        text = f"{total} parked: {', '.join(parts)}{more}. See junebug-turn parked list."
        self._send("messages_parked", text, count=total, parked=found[:MAX_PARKED])
        return True


def _is_clients(name: str) -> bool:
    return name.endswith(OF_CLIENTS)
