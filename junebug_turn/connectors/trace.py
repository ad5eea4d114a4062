"""Trace of one message: all that is known of it, from the stores, the journals, the queues and the circuits.

Tested by tests/integration/test_trace.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
from attrs import Factory, define, field, frozen

from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.parked import KINDS, Parked, Place, Selection, masked
from junebug_turn.connectors.parked_messages import ParkedMessages
from junebug_turn.delivery.circuits import OF_CLIENTS
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import CacheError, DeliveryRefused, UnreadableEntry
from junebug_turn.messages.vumi import Event, Message, format_timestamp
from junebug_turn.state.journal import (
    ACCEPTED,
    DEFERRED,
    DELAYED,
    DELIVERED,
    NOT_PUBLISHED,
    PUBLISHED,
    RECEIVED,
    Step,
    read_steps,
)
from junebug_turn.state.message_store import MessageStore, OutboundRecord

MOST_LOOKED_AT = 10_000
"""Messages of one queue that are looked at, at most."""

MOST_FOUND = 100
"""Parked messages and events that a trace has, at most."""


@frozen(kw_only=True)
class Source:
    """A connector that may have had the message.

    :ivar store: its message store; None where only the daemon can read it
    :ivar urls: the URLs of its configured destinations
    """

    connector: str
    store: MessageStore | None
    urls: tuple[str, ...] = ()


@define(kw_only=True)
class ConnectorTrace:
    """The part of a trace that one connector has.

    :ivar fault: why its store can't be read now
    """

    source: Source
    inbound: Message | None = None
    outbound: OutboundRecord | None = None
    events: list[Event] = field(factory=list)
    steps: list[Step] = field(factory=list)
    parked: list[Parked] = field(factory=list)
    fault: str | None = None

    @property
    def found(self) -> bool:
        """Whether the connector has had the message."""
        known = self.inbound, self.outbound, self.events, self.steps, self.parked
        return any(part is not None and part != [] for part in known)

    @classmethod
    async def read(cls, source: Source, message_id: str) -> ConnectorTrace:
        """Read the store and the journal of a connector."""
        found = cls(source=source)
        if source.store is not None:
            try:
                await found._read(source.store, message_id)
            except (CacheError, UnreadableEntry) as error:
                found.fault = f"the cache can't be read now: {error}"
        return found

    async def _read(self, store: MessageStore, message_id: str) -> None:
        self.steps = read_steps(await store.journal_entries().fetch(message_id))
        self.inbound = await store.fetch_inbound(message_id)
        self.outbound = await store.fetch_outbound(message_id)
        self.events = await store.fetch_events(message_id)

    def summary(self, circuits: Mapping[str, Mapping[str, Any]] | None, full: bool) -> dict[str, Any]:
        """Return the connector's part as JSON; see ``Trace.summary``."""
        own = [step for step in self.steps if "event_id" not in step.details]
        names = [step.name for step in own]
        came = next((step.at for step in own if step.name in (ACCEPTED, RECEIVED)), None)
        is_outbound = self.outbound is not None or ACCEPTED in names
        is_inbound = self.inbound is not None or RECEIVED in names
        inbound, outbound = self.inbound, self.outbound
        to_addr = (
            inbound.to_addr if inbound is not None else outbound.to_addr if outbound is not None else None
        )
        from_addr = inbound.from_addr if inbound is not None else None
        shown: dict[str, Any] = {
            "connector": self.source.connector,
            "kind": "outbound" if is_outbound else "inbound" if is_inbound else None,
            "from": from_addr if full else masked(from_addr),
            "to": to_addr if full else masked(to_addr),
            "timestamp": format_timestamp(inbound.timestamp) if inbound is not None else None,
            "came": _iso(came),
            "published": PUBLISHED in names
            if is_outbound and {PUBLISHED, NOT_PUBLISHED} & set(names)
            else None,
            "delivered": [_shown(step) for step in own if step.name == DELIVERED],
            "delayed": _delayed(own),
            "events": self._events(),
            "steps": [_shown(step) for step in self.steps],
            "parked": [_parked(parked, full) for parked in self.parked],
            "destinations": self._destinations(circuits),
            "fault": self.fault,
        }
        if full and inbound is not None:
            shown["content"] = inbound.content
        return shown

    def _events(self) -> list[dict[str, Any]]:
        """Return the events, each with the last step that it has made."""
        found: dict[str, dict[str, Any]] = {}
        for event in sorted(self.events, key=lambda event: event.timestamp):
            word = event.delivery_status or event.event_type
            found[event.event_id] = {
                "event_id": event.event_id,
                "event": word,
                "timestamp": format_timestamp(event.timestamp),
            }
        for step in self.steps:
            event_id = step.details.get("event_id")
            if isinstance(event_id, str):
                found.setdefault(event_id, {"event_id": event_id}).update(_shown(step))
        return list(found.values())

    def _destinations(self, circuits: Mapping[str, Mapping[str, Any]] | None) -> list[dict[str, Any]]:
        """Return the origins that the message and its events go to, with their circuits where these are known."""
        origins = [_origin(url) for url in self.source.urls]
        if self.outbound is not None and self.outbound.event_url is not None:
            origins.append(f"{_origin(self.outbound.event_url)}{OF_CLIENTS}")
        shown = []
        for origin in dict.fromkeys(origins):
            state: dict[str, Any] = {"origin": origin, "circuit": None}
            if circuits is not None:
                fault = circuits.get(origin)
                state["circuit"] = "closed" if fault is None else "open"
                state |= {} if fault is None else {"fault": fault["fault"], "since": fault["since"]}
            shown.append(state)
        return shown


@frozen(kw_only=True)
class Trace:
    """All that is known of one message.

    :ivar waiting: the message, and events of it, found in delay queues
    :ivar unread: the connectors whose stores only the daemon can read
    """

    message_id: str
    connectors: list[ConnectorTrace] = Factory(list)
    waiting: list[Parked] = Factory(list)
    unread: list[str] = Factory(list)

    @property
    def found(self) -> bool:
        """Whether anything is known."""
        return bool(self.waiting) or any(each.found for each in self.connectors)

    def summary(
        self, circuits: Mapping[str, Mapping[str, Any]] | None = None, *, full: bool = False
    ) -> dict[str, Any]:
        """Return the trace as JSON.

        :param circuits: the origins whose circuits are open, as ``Deliverer.degraded`` has them; None: not known here
        :param full: whether whole addresses and bodies are shown
        """
        return {
            "id": self.message_id,
            "found": self.found,
            "connectors": [
                each.summary(circuits, full) for each in self.connectors if each.found or each.fault
            ],
            "waiting": [_parked(parked, full) for parked in self.waiting],
            "unread": self.unread,
        }


async def trace(
    message_id: str,
    sources: Iterable[Source],
    browser: QueueBrowser | None = None,
    *,
    delay_queues: Iterable[Queue] = (),
) -> Trace:
    """Gather all that is known of a message.

    Of each queue no more than the first ``MOST_LOOKED_AT`` messages are looked at.

    :param message_id: that of a message; an event's is found among the parked ones
    :param browser: looks into the queues of parked messages; None: they are not looked into
    :param delay_queues: queues of delayed messages to look into, too: for what the journal does not know
    :raises AmqpConnectionError: the connection of ``browser`` is lost
    """
    sources = list(sources)
    found = {source.connector: await ConnectorTrace.read(source, message_id) for source in sources}
    waiting: list[Parked] = []
    if browser is not None:
        messages = ParkedMessages(browser, most=MOST_LOOKED_AT)
        places = tuple(Place(name, kind) for name in found for kind in KINDS)
        selection = Selection(places, message_id=message_id)
        await messages.each(
            selection, MOST_FOUND, lambda parked: found[parked.place.connector].parked.append(parked)
        )
        if delay_queues := tuple(delay_queues):
            delayed = attrs.evolve(selection, delay_queues=delay_queues)
            await messages.each(delayed, MOST_FOUND, waiting.append)
    unread = [source.connector for source in sources if source.store is None]
    return Trace(message_id=message_id, connectors=list(found.values()), waiting=waiting, unread=unread)


def _delayed(steps: list[Step]) -> dict[str, Any] | None:
    """Return where an inbound message waits, if waiting is the last that is known of it."""
    return _shown(steps[-1]) if steps and steps[-1].name in (DELAYED, DEFERRED) else None


def _shown(step: Step) -> dict[str, Any]:
    shown = {"at": _iso(step.at), "step": step.name, **step.details}
    if "next_try" in step.details:
        shown["next_try"] = _iso(step.details["next_try"])
    return shown


def _parked(parked: Parked, full: bool) -> dict[str, Any]:
    shown = parked.summary() | {"queue": parked.place.held_in}
    if full:
        if isinstance(parked.content, Message):
            shown |= {"from": parked.content.from_addr, "to": parked.content.to_addr}
        shown["body"] = parked.body.decode("utf-8", "backslashreplace")
    return shown


def _origin(url: str) -> str:
    try:
        return Destination.of(url, None).origin
    except DeliveryRefused:
        return "?"


def _iso(at: Any) -> str | None:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return None
