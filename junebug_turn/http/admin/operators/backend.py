"""Interface between the operators' page and API and the daemon behind them.

Tested by tests/integration/test_operators_api.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

Json = Mapping[str, Any]


@frozen
class Choice:
    """A choice of parked or delayed messages; what is None is not asked for.

    :ivar destination: see ``Selection`` of the connectors
    :ivar older_than: seconds since the last failure, at least
    :ivar newer_than: seconds since the last failure, at most
    :ivar delayed: whether among delayed messages; else among parked ones
    """

    connector: str | None = None
    kind: str | None = None
    reason: str | None = None
    destination: str | None = None
    older_than: float | None = None
    newer_than: float | None = None
    delayed: bool = False

    @property
    def state(self) -> str:
        """The state of the messages: ``parked`` or ``delayed``."""
        return "delayed" if self.delayed else "parked"


@frozen
class Overview:
    """The daemon's state, for the page.

    :ivar flows: ``yes``, ``partly`` or ``no``: whether messages flow
    :ivar reasons: why they don't, all of them
    :ivar broker: ``components.amqp`` of ``/health``
    :ivar connectors: see ``Operators.connectors``
    :ivar circuits: origin -> ``fault`` and ``since``, of the configured URLs that are down
    :ivar other_circuits: how many URLs of clients are down
    :ivar delayed: delay, as ``30s`` -> how many messages wait in its queue
    """

    flows: str
    reasons: Sequence[str]
    broker: Json
    connectors: Sequence[Json]
    circuits: Mapping[str, Json]
    other_circuits: int
    delayed: Mapping[str, int]


class Operators(Protocol):
    """The daemon, as operators see and change it.

    Every method with a connector raises ``NotFound`` for one that is not there.  Those about parked and delayed
    messages raise ``Passing`` where the broker can't be asked in time.
    """

    def overview(self) -> Overview:
        """Return the state of all."""

    def connectors(self) -> list[Json]:
        """Return the state of each connector: ``name``, ``application``, ``paused``, ``transport`` (whether somebody
        consumes its outbound queue: ``up``, ``down`` or ``unknown``), ``queues``, ``parked``, and the ``rates`` of
        messages a minute.  A number that is not known now is None."""

    async def pause(self, connector: str, paused: bool) -> bool:
        """Pause a connector, or resume it; returns whether that outlives the process."""

    async def held(self, choice: Choice, limit: int, offset: int, *, full: bool) -> Json:
        """Return under the state of a choice, ``parked`` or ``delayed``, so many messages of it after ``offset``
        others, and whether there is ``more``.

        :param full: whether with their addresses and bodies
        """

    async def held_message(self, id: str, choice: Choice, *, full: bool) -> Json:
        """Return a message of a choice; raises ``NotFound`` where there is none among those that can be looked at."""

    async def replay(self, choice: Choice, limit: int, id: str | None = None) -> Json:
        """Put messages back into their queues; returns how many are ``replayed``, and whether there may be ``more``.

        :param id: of the only one; raises ``NotFound`` as ``held_message`` does
        """

    async def drop(self, id: str, choice: Choice) -> None:
        """Drop a message for ever; raises ``NotFound`` as ``held_message`` does."""

    async def message(self, id: str, *, full: bool) -> Json:
        """Return all that is known of a message, as ``junebug-turn trace --json`` has it.

        :param full: whether with addresses and texts
        :raises NotFound: nothing is known of it
        """
