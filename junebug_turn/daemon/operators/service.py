"""The daemon, as the operators' page and API see and change it.

Tested by tests/integration/test_operators_api.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import LoopingCall

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.topology import Queue
from junebug_turn.daemon.operators.overview import State
from junebug_turn.daemon.operators.parked import ParkedService
from junebug_turn.daemon.operators.pausing import Pausing
from junebug_turn.daemon.traces import Traces
from junebug_turn.errors import AmqpConnectionError, NotFound
from junebug_turn.http.admin.operators.backend import Choice, Json, Overview
from junebug_turn.http.authentication import Authenticator

SAMPLE_INTERVAL = 5.0
"""Seconds between two samples for the rates."""


class OperatorsService:
    """Implementation of ``Operators``, which says what the methods do.

    :param applications: connector -> word of its application; it can change
    :ivar authenticator: checks the requests of operators
    """

    def __init__(
        self,
        reactor: Any,
        amqp: AmqpOptions,
        applications: Mapping[str, str],
        state: State,
        pausing: Pausing,
        traces: Traces,
        delay_queues: tuple[Queue, ...],
        authenticator: Authenticator,
    ) -> None:
        self.authenticator = authenticator
        self._applications = applications
        self._state = state
        self._pausing = pausing
        self._traces = traces
        self._parked = ParkedService(reactor, amqp, delay_queues, lambda: list(applications))
        self._sampling = LoopingCall(state.rates.sample)
        self._sampling.clock = reactor

    def start(self) -> None:
        """Sample the rates from now on."""
        self._sampling.start(SAMPLE_INTERVAL)

    def stop(self) -> None:
        """Sample them no more."""
        if self._sampling.running:
            self._sampling.stop()

    def overview(self) -> Overview:
        return self._state.overview()

    def connectors(self) -> list[Json]:
        return self._state.connectors()

    async def pause(self, connector: str, paused: bool) -> bool:
        if connector not in self._applications:
            raise NotFound(f"there is no connector {connector}")
        return await self._pausing.pause(connector, paused)

    async def held(self, choice: Choice, limit: int, offset: int, *, full: bool) -> Json:
        return await self._parked.list(choice, limit, offset, full=full)

    async def held_message(self, id: str, choice: Choice, *, full: bool) -> Json:
        return await self._parked.show(id, choice, full=full)

    async def replay(self, choice: Choice, limit: int, id: str | None = None) -> Json:
        return await self._parked.replay(choice, limit, id)

    async def drop(self, id: str, choice: Choice) -> None:
        await self._parked.drop(id, choice)

    async def message(self, id: str, *, full: bool) -> Json:
        found = await self._parked.alone(lambda: self._traces.find(id, full=full))
        if not found["found"] and found["broker"] is not None:
            raise AmqpConnectionError(found["broker"])
        if not found["found"] and not any(each["fault"] for each in found["connectors"]):
            raise NotFound(f"nothing is known of a message {id}")
        return found
