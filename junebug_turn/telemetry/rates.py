"""Rates of messages by connector, from the numbers that the metrics have."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from junebug_turn.telemetry.metrics import Metrics

SPAN = 60.0
"""Seconds that a rate is over, at least, when the process has run for so long."""


class Rates:
    """The messages a minute of each connector: outbound ones that were published, inbound ones and events delivered."""

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._samples: deque[tuple[float, Mapping[tuple[str, str], float]]] = deque()

    def sample(self) -> None:
        """Read the numbers; to be called every some seconds."""
        now = self._clock.seconds()
        self._samples.append((now, dict(self._metrics.done)))
        while len(self._samples) > 2 and now - self._samples[1][0] >= SPAN:
            self._samples.popleft()

    def of(self, connector: str) -> dict[str, float | None]:
        """Return the rates of a connector, by kind; None until there are two samples."""
        kinds = ("outbound", "inbound", "event")
        if len(self._samples) < 2:
            return dict.fromkeys(kinds)
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        minutes = max(end - start, 1e-9) / 60
        return {
            kind: round((after.get((connector, kind), 0) - before.get((connector, kind), 0)) / minutes, 1)
            for kind in kinds
        }
