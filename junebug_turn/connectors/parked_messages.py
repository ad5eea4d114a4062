"""The parked messages at a broker: walks through them, putting them back into their queues, dropping them.

Tested by tests/integration/test_parked.py and tests/unit/connectors/test_parked.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.connectors.parked import Parked, Place, Selection
from junebug_turn.connectors.retry_queues import (
    FORWARDED,
    History,
    forwarded_to,
    original_headers,
    routable_headers,
)
from junebug_turn.errors import Unroutable
from junebug_turn.net.clocks import WALL_CLOCK, WallClock


class ParkedMessages:
    """The parked messages at a broker.

    A walk takes each message once, also where a daemon parks others meanwhile, and holds a few at a time.

    :param progress: called with a queue, how many of its messages were looked at, and how many there are
    :param most: how many messages of each queue are looked at; None: all
    :param enough: called with the number of messages that were looked at; returns whether a walk shall end
    :ivar complete: whether the last walk went on until its limit, or the end of all queues
    """

    def __init__(
        self,
        browser: QueueBrowser,
        progress: Callable[[Place, int, int], None] | None = None,
        wall_clock: WallClock = WALL_CLOCK,
        most: int | None = None,
        enough: Callable[[int], bool] = lambda seen: False,
    ) -> None:
        self._wall_clock = wall_clock
        self._most = most
        self._enough = enough
        self.complete = True
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
        done = looked_at = 0
        self.complete = True
        for place in selection.places:
            walk = await self._browser.walk(place.parked) if done < limit and self.complete else None
            if walk is None:
                continue
            seen = 0
            try:
                while (
                    done < limit
                    and self.complete
                    and (self._most is None or seen < self._most)
                    and (batch := await walk.fetch())
                ):
                    seen += len(batch)
                    looked_at += len(batch)
                    self.complete = not self._enough(looked_at)
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
