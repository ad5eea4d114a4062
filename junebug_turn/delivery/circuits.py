"""The circuits of all destinations, as many as are needed, and the way of one delivery through them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from junebug_turn.delivery.circuit import Circuit

MAX_CIRCUITS = 10_000
"""Places that are remembered because they failed, unless deliveries wait for more."""

FORGET_AFTER = 3600.0
"""Seconds without a failure, and without anyone who waits, after which a place is forgotten."""

MAX_SHOWN = 100
"""Origins that ``Circuits.degraded`` tells of at most."""

_Place = tuple[str, str]


class Circuits:
    """The circuits of the places that are in use or have failed lately: event URLs come from clients, so there is
    no end to them.

    :param rng: gives numbers in [0, 1)
    :param suspect_limit: see ``Circuit``
    """

    def __init__(
        self,
        clock: Any,
        rng: Callable[[], float],
        *,
        suspect_limit: int,
        max_circuits: int = MAX_CIRCUITS,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._suspect_limit = suspect_limit
        self._max_circuits = max_circuits
        # The one that was used last is last.
        self._circuits: OrderedDict[_Place, Circuit] = OrderedDict()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._circuits)

    @contextmanager
    def way(self, origin: str, url: str | None, deadline: float) -> Iterator[Way]:
        """The way of one delivery.

        :param url: where the URL is a configured one: how it is set up then has a circuit of its own, so that
            a wrong path holds up nothing else at the same origin
        :param deadline: when waiting is over
        """
        places = [(origin, "")] if url is None else [(origin, url), (origin, "")]
        circuits = [self._take(place) for place in places]
        way = Way(circuits[-1], circuits[0] if url is not None else None, deadline)
        try:
            yield way
        finally:
            way.leave()
            for place, circuit in zip(places, circuits, strict=True):
                self._give_back(place, circuit)

    def degraded(self) -> dict[str, dict[str, Any]]:
        """What an operator may know of the origins whose circuits are open; no paths, no credentials."""
        self._forget_old(self._clock.seconds())
        found: dict[str, dict[str, Any]] = {}
        for circuit in self._circuits.values():
            if circuit.open_since is None:
                continue
            since = datetime.fromtimestamp(int(circuit.open_since), UTC).isoformat()
            found[circuit.origin] = {"state": "degraded", "fault": circuit.fault, "since": since}
            if len(found) == MAX_SHOWN:
                break
        return found

    def stop(self) -> None:
        """Cancel what waits, now and from now on."""
        self._stopped = True
        for circuit in tuple(self._circuits.values()):
            circuit.stop()

    def _take(self, place: _Place) -> Circuit:
        circuit = self._circuits.get(place)
        if circuit is None:
            circuit = Circuit(self._clock, self._rng, place[0], suspect_limit=self._suspect_limit)
            self._circuits[place] = circuit
            if self._stopped:
                circuit.stop()
        circuit.users += 1
        return circuit

    def _give_back(self, place: _Place, circuit: Circuit) -> None:
        circuit.users -= 1
        if circuit.users:
            return
        if circuit.healthy:
            del self._circuits[place]
            return
        self._circuits.move_to_end(place)
        self._forget_old(circuit.touched)
        while len(self._circuits) > self._max_circuits and self._forget_first():
            pass

    def _forget_old(self, now: float) -> None:
        while self._circuits:
            first = next(iter(self._circuits.values()))
            if now - first.touched < FORGET_AFTER or not self._forget_first():
                return

    def _forget_first(self) -> bool:
        """Forget the one that was used longest ago, unless it is in use."""
        place, circuit = next(iter(self._circuits.items()))
        if circuit.users:
            # It is used now: its place is at the other end.
            self._circuits.move_to_end(place)
            return False
        del self._circuits[place]
        return True


class Way:
    """The circuits between one delivery and its destination; for each attempt ``enter``, then how it ended.

    :ivar probe: whether the attempt is made to see if a destination that was down is up again
    """

    def __init__(self, origin: Circuit, endpoint: Circuit | None, deadline: float) -> None:
        self._origin = origin
        self._endpoint = endpoint
        self._deadline = deadline
        # Those that the attempt has entered, and whether it is their probe.
        self._entered: dict[Circuit, bool] = {}

    @property
    def is_open(self) -> bool:
        """Whether a circuit on the way is open."""
        return self._origin.is_open or (self._endpoint is not None and self._endpoint.is_open)

    @property
    def probe(self) -> bool:
        return any(self._entered.values())

    async def enter(self) -> None:
        """Wait until an attempt may be made.

        :raises CircuitOpen: not within the time that there was to wait
        """
        try:
            for circuit in (self._endpoint, self._origin):
                if circuit is not None:
                    self._entered[circuit] = await circuit.enter(self._deadline)
        except BaseException:
            self.leave()
            raise

    async def pause(self, seconds: float) -> None:
        """The delay before the next attempt, shorter when the destination's circuit opens meanwhile."""
        await self._origin.pause(seconds)

    def answered(self) -> None:
        """The destination answered, and is set up rightly."""
        for circuit, probe in self._ended().items():
            circuit.succeeded(probe)

    def failed(self, fault: str, retry_after: float | None) -> None:
        """The destination could not be reached, or can't answer now."""
        for circuit, probe in self._ended().items():
            if circuit is self._origin:
                circuit.failed(probe, fault, not_before=retry_after or 0)
            else:
                circuit.released(probe)

    def misconfigured(self, fault: str) -> None:
        """The destination is there, but the URL or the credentials are wrong: one answer is enough to know."""
        for circuit, probe in self._ended().items():
            if circuit is self._endpoint:
                circuit.failed(probe, fault, at_once=True)
            else:
                circuit.succeeded(probe)

    def leave(self) -> None:
        """The attempt, if there is one, ends without saying anything."""
        for circuit, probe in self._ended().items():
            circuit.released(probe)

    def _ended(self) -> Mapping[Circuit, bool]:
        entered, self._entered = self._entered, {}
        return entered
