"""The parked and delayed messages at a broker: walks through them, putting them back into their queues, dropping them.

Tested by tests/integration/test_parked.py and tests/unit/connectors/test_parked.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.connectors.history import (
    FORWARDED,
    History,
    forwarded_to,
    original_headers,
    routable_headers,
)
from junebug_turn.connectors.parked import Parked, Place, Selection
from junebug_turn.errors import Unroutable
from junebug_turn.net.clocks import WALL_CLOCK, WallClock


class ParkedMessages:
    """The parked and delayed messages at a broker.

    A walk takes each message once, also where a daemon parks others meanwhile.  Until its end it hides from others the
    messages that it has looked at; delayed ones come back at their time all the same, or then.

    :param progress: called with a queue, how many of its messages were looked at, and how many there are
    :param most: how many messages of each queue are looked at; None: all
    :param enough: called with the number of messages that were looked at; returns whether a walk shall end
    :ivar complete: whether the last walk went on until its limit, or the end of all queues
    """

    def __init__(
        self,
        browser: QueueBrowser,
        progress: Callable[[str, int, int], None] | None = None,
        wall_clock: WallClock = WALL_CLOCK,
        most: int | None = None,
        enough: Callable[[int], bool] = lambda seen: False,
    ) -> None:
        self._wall_clock = wall_clock
        self._most = most
        self._enough = enough
        self.complete = True
        self._browser = browser
        self._progress = progress or (lambda queue, seen, count: None)

    async def each(self, selection: Selection, limit: int, see: Callable[[Parked], None]) -> int:
        """Show the first ``limit`` messages, in order, to ``see``; all stay.  Returns how many there were."""

        async def show(batch: list[Parked]) -> list[Parked]:
            for parked in batch:
                see(parked)
            return batch

        return await self._walk(selection, limit, show)

    async def replay(self, selection: Selection, limit: int, see: Callable[[Parked], None]) -> int:
        """Put messages back into the queues that they came from: parked ones as if they were new, delayed ones with
        their history.

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
            await self._browser.publish(queue, delivery, _headers_back(parked))
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
        done = looked_at = 0
        self.complete, ended = True, False
        # A quorum queue has what was put back in front, in the order in which it came: where a look takes fewer of
        # these than the one before, they go behind the others.  A delayed one would be late then.
        whole = bool(selection.delay_queues) and self._most is not None
        for queue, places in selection.queues().items():
            walk = await self._browser.walk(queue) if done < limit and not ended else None
            if walk is None:
                continue
            seen, most = 0, walk.count if self._most is None else self._most
            try:
                while (done < limit or whole) and not ended and seen < most and (batch := await walk.fetch()):
                    seen += len(batch)
                    looked_at += len(batch)
                    ended = self._enough(looked_at)
                    chosen = list(self._chosen(selection, places, batch))[: limit - done]
                    done += len(await work(chosen))
                    if not selection.delay_queues:
                        await self._replace(queue, batch)
                    self._progress(queue, seen, walk.count)
            finally:
                await walk.end()
            if ended or (done < limit and most <= seen < walk.count):
                self.complete = False
        return done

    async def _replace(self, queue: str, batch: list[Delivery]) -> None:
        """Replace the messages that were looked at too often by copies: a quorum queue counts each time.

        It doesn't drop a delayed message, but returns it to its own queue before its time.
        """
        now = self._wall_clock.now()
        for delivery in batch:
            if delivery.settled or not delivery.worn_out:
                continue
            headers = routable_headers(delivery.headers)
            expiration = _remaining(delivery, now)
            await self._browser.publish(queue, delivery, headers, expiration=expiration)
            delivery.ack()

    def _chosen(
        self, selection: Selection, places: Mapping[str | bytes | None, Place], batch: list[Delivery]
    ) -> Iterator[Parked]:
        now, any_key = self._wall_clock.now(), places.get(None)
        for delivery in batch:
            place = any_key or places.get(delivery.routing_key)
            if place is not None and selection.takes(parked := Parked.read(place, delivery, now)):
                yield parked


def _headers_back(parked: Parked) -> dict[Any, Any]:
    """Return the headers of the copy that goes back into its queue."""
    headers = parked.delivery.headers
    if parked.place.delay_queue is not None:
        return routable_headers(headers)
    forwarded = forwarded_to(headers)
    return original_headers(headers, with_deaths=False) | ({FORWARDED: forwarded} if forwarded else {})


def _remaining(delivery: Delivery, now: float) -> int | None:
    """Compute the milliseconds that a parked message is still kept; None: for ever."""
    try:
        whole = int(delivery.properties.get("expiration") or 0)
    except ValueError:
        return None
    age = now - History.read(delivery.headers, now).last_failure
    return max(1, whole - round(age * 1000)) if whole else None
