"""Parked and delayed messages, for operators: their places, the choice of some of them, and their description."""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Self

import attrs
from attrs import frozen

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.content_encoding import decode
from junebug_turn.connectors.history import History, iso_time
from junebug_turn.connectors.retry_queues import parked_queue
from junebug_turn.errors import UnreadableMessage
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.masking import mask

KINDS = ("inbound", "event")


@frozen
class Place:
    """A queue of a connector, and where its messages are parked, or delayed.

    :ivar delay_queue: the queue in which they are delayed, with those of all connectors; None: they are parked
    """

    connector: str
    kind: str
    delay_queue: Queue | None = None

    @property
    def queue(self) -> Queue:
        return Queue(f"{self.connector}.{self.kind}")

    @property
    def held_in(self) -> str:
        """The name of the queue that holds them."""
        return (self.delay_queue or parked_queue(self.queue)).name


@frozen
class Selection:
    """A choice of parked or delayed messages: those of ``places`` with all that is given.

    :ivar destination: the origin that they were for, as ``https://host:443``, or its host with or without the port
    :ivar older_than: seconds since the last failure, at least
    :ivar newer_than: seconds since the last failure, at most
    :ivar message_id: chooses the message with this id, and the events of it
    :ivar delay_queues: those whose messages are chosen from; none: parked messages are
    """

    places: tuple[Place, ...]
    reason: str | None = None
    ids: frozenset[str] = frozenset()
    message_id: str | None = None
    destination: str | None = None
    older_than: float = 0
    newer_than: float = math.inf
    delay_queues: tuple[Queue, ...] = ()

    @classmethod
    def of(
        cls,
        connectors: Iterable[str],
        kind: str | None = None,
        reason: str | None = None,
        ids: Iterable[str] = (),
        *,
        destination: str | None = None,
        older_than: float | None = None,
        newer_than: float | None = None,
        delay_queues: Iterable[Queue] = (),
    ) -> Self:
        """Choose among the messages of these connectors; what is None is not asked for.

        :param kind: ``inbound`` or ``event``; None: both
        """
        kinds = (kind,) if kind else KINDS
        places = tuple(Place(connector, each) for connector in dict.fromkeys(connectors) for each in kinds)
        return cls(
            places,
            reason,
            frozenset(ids),
            destination=destination,
            older_than=0 if older_than is None else older_than,
            newer_than=math.inf if newer_than is None else newer_than,
            delay_queues=tuple(delay_queues),
        )

    def queues(self) -> dict[str, dict[str | bytes | None, Place]]:
        """Return the queues to look into: name -> routing key -> place of its messages; None stands for any key."""
        if not self.delay_queues:
            return {place.held_in: {None: place} for place in self.places}
        # A delayed message has the name of its own queue as its key.
        return {
            queue.name: {place.queue.name: attrs.evolve(place, delay_queue=queue) for place in self.places}
            for queue in self.delay_queues
        }

    def takes(self, parked: Parked) -> bool:
        """Tell whether ``parked`` is one of them."""
        if self.message_id is not None and not parked.belongs_to(self.message_id):
            return False
        if self.destination is not None and self.destination.rstrip("/") not in parked.destinations:
            return False
        if not self.older_than <= parked.age <= self.newer_than:
            return False
        return self.reason in (None, parked.history.reason) and (not self.ids or parked.id in self.ids)


@frozen
class Parked:
    """A parked or delayed message; ``id`` is that of the message or event, or one made of a body that can't be read."""

    id: str
    place: Place
    delivery: Delivery
    history: History
    content: Message | Event | None
    age: float

    @classmethod
    def read(cls, place: Place, delivery: Delivery, now: float) -> Self:
        """Read a message, whatever its body and headers hold."""
        history = History.read(delivery.headers, now)
        content: Message | Event | None = None
        try:
            body = decode(delivery)
            if place.kind == "event":
                content = event = Event.from_json(body)
                found = event.event_id
            else:
                content = message = Message.from_json(body)
                found = message.message_id
        except UnreadableMessage:
            found = f"unreadable-{sha256(delivery.body).hexdigest()[:16]}"
        return cls(found, place, delivery, history, content, now - history.last_failure)

    def belongs_to(self, message_id: str) -> bool:
        """Tell whether it is the message with this id, or an event of it."""
        return self.id == message_id or getattr(self.content, "user_message_id", None) == message_id

    @property
    def destinations(self) -> tuple[str, ...]:
        """The names of the destination: its origin, the same without the port, its host with and without the port."""
        origin = self.history.destination
        scheme, _, address = origin.partition("://")
        host = address.rpartition(":")[0]
        return (origin, f"{scheme}://{host}", address, host) if address else ()

    @property
    def body(self) -> bytes:
        """Its body, without its content_encoding where that can be read."""
        try:
            return decode(self.delivery)
        except UnreadableMessage:
            return self.delivery.body

    def summary(self) -> dict[str, Any]:
        """Summarize it for a list: without its text, and with the last four characters of an address."""
        content, history = self.content, self.history
        names: dict[str, Any] = {"from": None, "to": None, "user_message_id": None}
        if isinstance(content, Message):
            names |= {"from": masked(content.from_addr), "to": masked(content.to_addr)}
        elif content is not None:
            names["user_message_id"] = content.user_message_id
        headers = history.headers()
        delayed = {} if self.next_try is None else {"queue": self.place.held_in, "next_try": self.next_try}
        return {
            "id": self.id,
            "kind": self.place.kind,
            "connector": self.place.connector,
            **names,
            "reason": history.reason,
            "last_status": history.last_status,
            "last_error": history.last_error or None,
            "destination": history.destination or None,
            "attempts": history.attempts,
            "delays": history.delays,
            "first_failure": headers["first_failure"],
            "last_failure": headers["last_failure"],
            "age": int(self.age),
            **delayed,
        }

    @property
    def next_try(self) -> str | None:
        """When a delayed message is tried again at the latest; None for a parked one."""
        queue = self.place.delay_queue
        if queue is None:
            return None
        return iso_time(self.history.last_failure + queue.arguments["x-message-ttl"] / 1000)

    def details(self, *, body: bool) -> dict[str, Any]:
        """Describe it whole.

        :param body: whether with its body, which has the text and all addresses
        """
        details = self.summary() | {"queue": self.place.held_in, "headers": self.delivery.headers}
        return details | {"body": self.body.decode("utf-8", "backslashreplace")} if body else details


def masked(address: str | None) -> str | None:
    """Mask an address, but for its last four characters."""
    return address and mask(address, stars=4)
