"""Circuits of all destinations, as many as are needed, and those of one delivery."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from junebug_turn.delivery.circuit import Circuit
from junebug_turn.net.clocks import WALL_CLOCK, WallClock

MAX_CIRCUITS = 10_000
"""Circuits that are remembered because they failed, unless deliveries wait for more."""

FORGET_AFTER = 3600.0
"""Seconds without a failure, and without a waiting delivery, after which a circuit is forgotten."""

MAX_SHOWN = 100
"""Origins that ``Circuits.degraded`` returns at most."""

OF_CLIENTS = " (event_url)"
"""End of the name of an origin in ``Circuits.degraded`` whose URLs are clients'."""

# The origin; the configured URL, or nothing; the channel whose client gave the URL, or nothing.
_Key = tuple[str, str, str]


class Circuits:
    """Circuits of the origins and URLs that are in use or have failed lately: event URLs come from clients, so there
    is no end to them.

    :param rng: gives numbers in [0, 1)
    :param suspect_limit: see ``Circuit``
    :param recovered: is called when an origin or URL whose circuit was open has answered
    """

    def __init__(
        self,
        clock: Any,
        rng: Callable[[], float],
        *,
        suspect_limit: int,
        max_circuits: int = MAX_CIRCUITS,
        wall_clock: WallClock = WALL_CLOCK,
        recovered: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng
        self._suspect_limit = suspect_limit
        self._max_circuits = max_circuits
        self._recovered = recovered
        # The one that was used last is last.
        self._circuits: OrderedDict[_Key, Circuit] = OrderedDict()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._circuits)

    @contextmanager
    def of_delivery(
        self, origin: str, url: str | None, message: Hashable, deadline: float, channel: str = ""
    ) -> Iterator[DeliveryCircuits]:
        """Return the circuits of one delivery.

        :param url: where the URL is a configured one: it then has a circuit of its own, so that a wrong path holds
            up nothing else at the same origin
        :param message: the identity of the message, the same at each of its deliveries
        :param deadline: when waiting is over
        :param channel: the channel whose client gave the URL: such circuits are apart from the others of an origin,
            since a client chooses what is asked for there
        """
        keys = [(origin, "", channel)] if url is None else [(origin, url, ""), (origin, "", "")]
        circuits = [self._take(key) for key in keys]
        endpoint = circuits[0] if url is not None else None
        delivery = DeliveryCircuits(circuits[-1], endpoint, message, deadline, self._recovered)
        try:
            yield delivery
        finally:
            delivery.leave()
            for key, circuit in zip(keys, circuits, strict=True):
                self._give_back(key, circuit)

    def degraded(self) -> dict[str, dict[str, Any]]:
        """Describe the origins whose circuits are open, for an operator; no paths, no credentials.

        Those of clients' URLs have names of their own: they say nothing about a configured URL at the same origin.
        """
        self._forget_old(self._clock.seconds())
        found: dict[str, dict[str, Any]] = {}
        # So many clients' as are down must not hide a configured one.
        for (origin, _, channel), circuit in sorted(self._circuits.items(), key=lambda item: item[0][2]):
            if circuit.open_since is None:
                continue
            since = datetime.fromtimestamp(int(circuit.open_since), UTC).isoformat()
            name = f"{origin}{OF_CLIENTS}" if channel else origin
            found[name] = {"state": "degraded", "fault": circuit.fault, "since": since}
            if len(found) == MAX_SHOWN:
                break
        return found

    def stop(self) -> None:
        """Cancel the deliveries that wait, now and from now on."""
        self._stopped = True
        for circuit in tuple(self._circuits.values()):
            circuit.stop()

    def _take(self, key: _Key) -> Circuit:
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = Circuit(
                self._clock,
                self._rng,
                key[0],
                suspect_limit=self._suspect_limit,
                wall_clock=self._wall_clock,
            )
            self._circuits[key] = circuit
            if self._stopped:
                circuit.stop()
        circuit.users += 1
        return circuit

    def _give_back(self, key: _Key, circuit: Circuit) -> None:
        circuit.users -= 1
        if circuit.users:
            return
        if circuit.healthy:
            del self._circuits[key]
            return
        self._circuits.move_to_end(key)
        self._forget_old(circuit.touched)
        while len(self._circuits) > self._max_circuits and self._forget_first():
            pass

    def _forget_old(self, now: float) -> None:
        while self._circuits:
            first = next(iter(self._circuits.values()))
            if now - first.touched < FORGET_AFTER or not self._forget_first():
                return

    def _forget_first(self) -> bool:
        """Forget the circuit that was used longest ago, unless it is in use."""
        key, circuit = next(iter(self._circuits.items()))
        if circuit.users:
            # It is in use, so it belongs to the other end.
            self._circuits.move_to_end(key)
            return False
        del self._circuits[key]
        return True


class DeliveryCircuits:
    """Circuits of one delivery: its origin's, and that of a configured URL.

    Each attempt begins with ``enter`` and ends with one of ``answered``, ``failed``, ``misconfigured`` and ``leave``.

    :param recovered: is called when one that was open is closed
    :ivar probe: whether the attempt is made to see if a destination that was down is up again
    """

    def __init__(
        self,
        origin: Circuit,
        endpoint: Circuit | None,
        message: Hashable,
        deadline: float,
        recovered: Callable[[], None],
    ) -> None:
        self._origin = origin
        self._endpoint = endpoint
        self._message = message
        self._deadline = deadline
        self._recovered = recovered
        # The circuits that the attempt has entered, and whether it is their probe.
        self._entered: dict[Circuit, bool] = {}

    @property
    def is_open(self) -> bool:
        """Whether one of the circuits is open."""
        return self._origin.is_open or (self._endpoint is not None and self._endpoint.is_open)

    @property
    def asking(self) -> bool:
        """Whether one of the circuits is open or in doubt."""
        return self._origin.asking or (self._endpoint is not None and self._endpoint.asking)

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
                    self._entered[circuit] = await circuit.enter(self._deadline, self._message)
        except BaseException:
            self.leave()
            raise

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt, shorter when the destination's circuit opens meanwhile."""
        await self._origin.pause(seconds)

    def answered(self) -> None:
        """End an attempt that the destination answered, and that was set up rightly."""
        for circuit, probe in self._ended().items():
            self._succeeded(circuit, probe)

    def failed(self, fault: str, retry_after: float | None, *, reached: bool = True) -> None:
        """End an attempt that the destination can't answer now.

        :param reached: whether the request got to the destination; where not, the message can't be the cause
        """
        message = self._message if reached else None
        for circuit, probe in self._ended().items():
            if circuit is self._origin:
                circuit.failed(probe, fault, message, not_before=retry_after or 0)
            else:
                circuit.released(probe)

    def limited(self) -> None:
        """End an attempt that the destination answered, though it takes no more calls now."""
        for circuit, probe in self._ended().items():
            if circuit is self._origin:
                self._succeeded(circuit, probe)
            else:
                circuit.released(probe)

    def misconfigured(self, fault: str) -> None:
        """End an attempt whose answer blames the URL or the credentials."""
        for circuit, probe in self._ended().items():
            if circuit is self._endpoint:
                circuit.failed(probe, fault, self._message)
            else:
                self._succeeded(circuit, probe)

    def leave(self) -> None:
        """End the attempt, if there is one, without a verdict."""
        for circuit, probe in self._ended().items():
            circuit.released(probe)

    def _succeeded(self, circuit: Circuit, probe: bool) -> None:
        # In doubt it has messages put off as well.
        was_asking = circuit.asking
        circuit.succeeded(probe)
        if was_asking:
            self._recovered()

    def _ended(self) -> Mapping[Circuit, bool]:
        entered, self._entered = self._entered, {}
        return entered
