"""Parked and delayed messages for the operators' page and API: bounded looks at them, replaying and dropping.

Tested by tests/integration/test_operators_api.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.parked import Parked, Selection
from junebug_turn.connectors.parked_messages import ParkedMessages
from junebug_turn.errors import NotAnsweredInTime, NotFound
from junebug_turn.http.admin.operators.backend import Choice, Json
from junebug_turn.messages.vumi import Message

LOOK_TIME = 10.0
"""Seconds after which a look at messages ends where it is."""

MOST_DELAYED = 1000
"""Messages of a delay queue that are looked at, at most: meanwhile they don't come back."""

LIMIT = 25.0
"""Seconds after which the connection to the broker is closed, whatever is under way."""

TURN_TIME = 15.0
"""Seconds that a request waits for the one before it: a look hides the messages from others."""

T = TypeVar("T")


@define(eq=False)
class ParkedService:
    """The parked and delayed messages, by a connection to the broker for each request; one request at a time.

    :ivar connectors: returns the names of all connectors
    """

    reactor: Any
    amqp: AmqpOptions
    delay_queues: tuple[Queue, ...]
    connectors: Callable[[], Collection[str]]
    _turn: DeferredLock = field(factory=DeferredLock, init=False)

    log = Logger()

    async def list(self, choice: Choice, limit: int, offset: int, *, full: bool) -> Json:
        """See ``Operators.held``."""
        found: list[Parked] = []

        async def look(messages: ParkedMessages) -> bool:
            # One more than are asked for shows whether there are more.
            await messages.each(self._selection(choice), offset + limit + 1, found.append)
            return messages.complete

        complete = await self._do(choice, look)
        shown = found[offset : offset + limit]
        more = not complete or len(found) > offset + limit
        return {choice.state: [_shown(parked, full, brief=True) for parked in shown], "more": more}

    async def show(self, id: str, choice: Choice, *, full: bool) -> Json:
        """See ``Operators.held_message``."""
        found: list[Parked] = []

        async def look(messages: ParkedMessages) -> bool:
            await messages.each(self._selection(choice, id), 1, found.append)
            return messages.complete

        complete = await self._do(choice, look)
        if not found:
            raise _missing(id, choice, complete)
        return _shown(found[0], full, brief=False)

    async def replay(self, choice: Choice, limit: int, id: str | None) -> Json:
        """See ``Operators.replay``."""
        replayed = 0

        def see(parked: Parked) -> None:
            nonlocal replayed
            replayed += 1
            self._log("replayed", choice, parked)

        async def put_back(messages: ParkedMessages) -> bool:
            done = await messages.replay(self._selection(choice, id), limit, see)
            return messages.complete and done < limit

        complete = await self._do(choice, put_back)
        if id is not None and not replayed:
            raise _missing(id, choice, complete)
        return {"replayed": replayed, "more": not complete and id is None}

    async def drop(self, id: str, choice: Choice) -> None:
        """See ``Operators.drop``."""
        dropped = 0

        async def purge(messages: ParkedMessages) -> bool:
            nonlocal dropped
            dropped = await messages.purge(
                self._selection(choice, id), 1, lambda parked: self._log("dropped", choice, parked)
            )
            return messages.complete

        complete = await self._do(choice, purge)
        if not dropped:
            raise _missing(id, choice, complete)

    def _log(self, done: str, choice: Choice, parked: Parked) -> None:
        self.log.info(
            "An operator {done} the {state} message {message_id} of {queue}",
            done=done,
            state=choice.state,
            message_id=parked.id,
            queue=parked.place.queue.name,
            connector=parked.place.connector,
            log_every=True,
        )

    def _selection(self, choice: Choice, id: str | None = None) -> Selection:
        names = self.connectors()
        if choice.connector is not None:
            if choice.connector not in names:
                raise NotFound(f"there is no connector {choice.connector}")
            names = [choice.connector]
        return Selection.of(
            names,
            choice.kind,
            choice.reason,
            [] if id is None else [id],
            destination=choice.destination,
            older_than=choice.older_than,
            newer_than=choice.newer_than,
            delay_queues=self.delay_queues if choice.delayed else (),
        )

    def alone(self, work: Callable[[], Awaitable[T]]) -> Deferred[T]:
        """Do ``work`` while no other request looks into queues: it would not see the messages.

        It goes on when the request is cancelled: a message between its copy and its ack would be there twice.
        """
        answer: Deferred[T] = Deferred()

        def done(result: Any) -> None:
            if not answer.called:
                answer.callback(result)

        working = Deferred.fromCoroutine(self._in_turn(work)).addTimeout(TURN_TIME + LIMIT, self.reactor)
        working.addErrback(_overdue).addBoth(done)
        return answer

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._turn.acquire().addTimeout(TURN_TIME, self.reactor)
        try:
            return await work()
        finally:
            self._turn.release()

    def _do(self, choice: Choice, work: Callable[[ParkedMessages], Awaitable[T]]) -> Deferred[T]:
        """Do ``work`` with the messages at the broker."""

        async def browse() -> T:
            browser = await QueueBrowser.open(self.reactor, self.amqp)
            until = self.reactor.seconds() + LOOK_TIME
            messages = ParkedMessages(
                browser,
                most=MOST_DELAYED if choice.delayed else None,
                enough=lambda seen: self.reactor.seconds() > until,
            )
            closing = self.reactor.callLater(LIMIT, lambda: Deferred.fromCoroutine(browser.close()))
            try:
                return await work(messages)
            finally:
                if closing.active():
                    closing.cancel()
                    await browser.close()

        return self.alone(browse)


def _overdue(failure: Failure) -> None:
    failure.trap(DeferredTimeout)
    raise NotAnsweredInTime("the broker or the request before this one takes long; try again soon") from None


def _shown(parked: Parked, full: bool, *, brief: bool) -> Json:
    if not full:
        return parked.summary()
    content = parked.content
    addresses: dict[str, Any] = {}
    if isinstance(content, Message):
        addresses = {"from": content.from_addr, "to": content.to_addr}
    details = parked.details(body=True) | addresses
    headers = {
        str(name): value if isinstance(value, str | int) else str(value)
        for name, value in details["headers"].items()
    }
    if brief:
        del details["headers"]
        return details
    return details | {"headers": headers}


def _missing(id: str, choice: Choice, complete: bool) -> NotFound:
    if complete:
        return NotFound(f"no {choice.state} message has the id {id}")
    if choice.delayed:
        return NotFound(
            f"none of the first {MOST_DELAYED} messages of each delay queue has the id {id}: use the command "
            "junebug-turn delayed"
        )
    return NotFound(
        f"none of the parked messages that could be looked at in {LOOK_TIME:g} s has the id {id}: name its connector "
        "and kind, or use the command junebug-turn parked"
    )
