"""Parked messages, for operators: listing them, putting them back into their queues, dropping them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from typing import Any, Self

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.content_encoding import decode
from junebug_turn.connectors.retry_queues import (
    FORWARDED,
    History,
    forwarded_to,
    original_headers,
    parked_queue,
    routable_headers,
)
from junebug_turn.errors import UnreadableMessage, Unroutable
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.net.clocks import WALL_CLOCK, WallClock
from junebug_turn.telemetry.masking import mask

KINDS = ("inbound", "event")


@frozen
class Place:
    """A queue of a connector, and where its messages are parked."""

    connector: str
    kind: str

    @property
    def queue(self) -> Queue:
        return Queue(f"{self.connector}.{self.kind}")

    @property
    def parked(self) -> str:
        """The name of the queue where they are parked."""
        return parked_queue(self.queue).name


@frozen
class Selection:
    """A choice of parked messages: those of ``places``, of this reason and with these ids, where these are given.

    :ivar message_id: chooses the message with this id, and the events of it
    """

    places: tuple[Place, ...]
    reason: str | None = None
    ids: frozenset[str] = frozenset()
    message_id: str | None = None

    def takes(self, parked: Parked) -> bool:
        """Tell whether ``parked`` is one of them."""
        if self.message_id is not None and not parked.belongs_to(self.message_id):
            return False
        return self.reason in (None, parked.history.reason) and (not self.ids or parked.id in self.ids)


@frozen
class Parked:
    """A parked message; ``id`` is that of the message or event, or one made of a body that can't be read."""

    id: str
    place: Place
    delivery: Delivery
    history: History
    content: Message | Event | None
    age: float

    @classmethod
    def read(cls, place: Place, delivery: Delivery, now: float) -> Self:
        """Read a parked message, whatever its body and headers hold."""
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
        return {
            "id": self.id,
            "kind": self.place.kind,
            "connector": self.place.connector,
            **names,
            "reason": history.reason,
            "last_status": history.last_status,
            "last_error": history.last_error or None,
            "attempts": history.attempts,
            "delays": history.delays,
            "first_failure": headers["first_failure"],
            "last_failure": headers["last_failure"],
            "age": int(self.age),
        }


def masked(address: str | None) -> str | None:
    """Mask an address, but for its last four characters."""
    return address and mask(address, stars=4)


class ParkedMessages:
    """The parked messages at a broker.

    A walk takes each message once, also where a daemon parks others meanwhile, and holds a few at a time.

    :param progress: called with a queue, how many of its messages were looked at, and how many there are
    :param most: how many messages of each queue are looked at; None: all
    """

    def __init__(
        self,
        browser: QueueBrowser,
        progress: Callable[[Place, int, int], None] | None = None,
        wall_clock: WallClock = WALL_CLOCK,
        most: int | None = None,
    ) -> None:
        self._wall_clock = wall_clock
        self._most = most
        self._browser = browser
        self._progress = progress or (lambda place, seen, count: None)

    async def each(self, selection: Selection, limit: int, see: Callable[[Parked], None]) -> int:
        """Show the first ``limit`` messages, in order, to ``see``; all stay.  Returns how many there were."""

        async def show(batch: list[Parked]) -> list[Parked]:
            for parked in batch:
                see(parked)
            return batch

        return await self._walk(selection, limit, show)

    async def replay(self, selection: Selection, limit: int, see: Callable[[Parked], None]) -> int:
        """Put messages back into the queues that they came from, as if they were new.

        A message leaves its place after the broker's confirm, so an interruption can repeat it, not lose it.
        ``see`` gets each one that is back.

        :raises Unroutable: there is no such queue (any more)
        :raises AmqpConnectionError: the connection is lost, or the broker takes no messages
        """

        async def put_back(batch: list[Parked]) -> list[Parked]:
            publishing = [Deferred.fromCoroutine(self._put_back(parked)) for parked in batch]
            fates: Any = await DeferredList(publishing, consumeErrors=True)
            back = [parked for parked, (done, _) in zip(batch, fates, strict=True) if done]
            for parked in back:
                parked.delivery.ack()
                see(parked)
            for _, fault in fates:
                if isinstance(fault, Failure):
                    fault.raiseException()
            return back

        return await self._walk(selection, limit, put_back)

    async def _put_back(self, parked: Parked) -> None:
        queue, delivery = parked.place.queue.name, parked.delivery
        try:
            headers = original_headers(delivery.headers, with_deaths=False)
            if forwarded := forwarded_to(delivery.headers):
                headers[FORWARDED] = forwarded
            await self._browser.publish(queue, delivery, headers)
        except Unroutable:
            raise Unroutable(f"there is no queue {queue} to put messages back into") from None
        except ValueError:
            # Read leniently, but in no form that can be written: a message without headers is better than none.
            await self._browser.publish(queue, delivery, {})

    async def purge(self, selection: Selection, limit: int, see: Callable[[Parked], None]) -> int:
        """Drop messages, each of which ``see`` gets; returns how many."""

        async def drop(batch: list[Parked]) -> list[Parked]:
            for parked in batch:
                parked.delivery.ack()
                see(parked)
            return batch

        return await self._walk(selection, limit, drop)

    async def _walk(
        self, selection: Selection, limit: int, work: Callable[[list[Parked]], Awaitable[list[Parked]]]
    ) -> int:
        """Have ``work`` done for batches of the selected messages; the number of those it returns."""
        done = 0
        for place in selection.places:
            walk = await self._browser.walk(place.parked) if done < limit else None
            if walk is None:
                continue
            seen = 0
            try:
                while (
                    done < limit
                    and (self._most is None or seen < self._most)
                    and (batch := await walk.fetch())
                ):
                    seen += len(batch)
                    chosen = list(self._chosen(selection, place, batch))[: limit - done]
                    done += len(await work(chosen))
                    await self._replace(place, batch)
                    self._progress(place, seen, walk.count)
            finally:
                await walk.end()
        return done

    async def _replace(self, place: Place, batch: list[Delivery]) -> None:
        """Replace the messages that were looked at too often by copies: a quorum queue counts each time."""
        now = self._wall_clock.now()
        for delivery in batch:
            if delivery.settled or not delivery.worn_out:
                continue
            headers = routable_headers(delivery.headers)
            expiration = _remaining(delivery, now)
            await self._browser.publish(place.parked, delivery, headers, expiration=expiration)
            delivery.ack()

    def _chosen(self, selection: Selection, place: Place, batch: list[Delivery]) -> Iterator[Parked]:
        now = self._wall_clock.now()
        for delivery in batch:
            parked = Parked.read(place, delivery, now)
            if selection.takes(parked):
                yield parked


def _remaining(delivery: Delivery, now: float) -> int | None:
    """Compute the milliseconds that a parked message is still kept; None: for ever."""
    try:
        whole = int(delivery.properties.get("expiration") or 0)
    except ValueError:
        return None
    age = now - History.read(delivery.headers, now).last_failure
    return max(1, whole - round(age * 1000)) if whole else None
