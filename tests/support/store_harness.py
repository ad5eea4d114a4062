"""Message stores of each kind for tests, in a place of their own, with a clock that the test moves; and entries."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.python.threadable import isInIOThread

from junebug_turn.errors import CacheError
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from junebug_turn.state.sqlite.store import SqliteStore
from tests.support.clocks import wall_clock
from tools.servers.redis import RedisServer

reactor: Any = _reactor
T = TypeVar("T")


def in_thread(test: Callable[..., None]) -> Any:
    """``test``, in a thread: so that it can wait for ``result`` of what takes turns of the reactor."""

    @wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        await deferToThread(test, *args, **kwargs)

    return pytest_twisted.ensureDeferred(run)


def result(awaitable: Awaitable[T]) -> T:
    """What ``awaitable`` gives: at once, or in a fixture or in a test that runs ``in_thread``."""

    async def waiting() -> T:
        return await awaitable

    if not isInIOThread():
        return blockingCallFromThread(reactor, Deferred.fromCoroutine, waiting())  # type: ignore[no-any-return]
    deferred = Deferred.fromCoroutine(waiting())
    results: list[Any] = []
    if deferred.called:
        deferred.addBoth(results.append)
    if not results:
        return pytest_twisted.blockon(deferred)  # type: ignore[no-any-return]
    (value,) = results
    if hasattr(value, "raiseException"):
        value.raiseException()
    return value  # type: ignore[no-any-return]


def message(message_id: str = "m1", from_addr: str | None = "+27831234567", **fields: Any) -> Message:
    return Message(
        message_id=message_id,
        to_addr="8110",
        from_addr=from_addr,
        transport_name="sms",
        transport_type="sms",
        **fields,
    )


def event(message_id: str = "m1", event_id: str = "e1", **fields: Any) -> Event:
    return Event(user_message_id=message_id, event_id=event_id, **{"event_type": "ack", **fields})


def outbound(
    message_id: str = "m1", event_url: str | None = None, token: str | None = None, **fields: Any
) -> OutboundRecord:
    return OutboundRecord(message_id, "8110", event_url, token, **fields)


class ThreadedClock(Clock):
    """A clock that runs threads, and what is to come in the next turn, as the reactor does."""

    def callLater(self, when: float, what: Any, *args: Any, **kwargs: Any) -> Any:
        return (reactor if when == 0 else super()).callLater(when, what, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Stores:
    """Stores of one kind, which share their entries.

    :cvar refreshes: whether reading renews the time to live
    :cvar bounded: whether there is ``max_entries``
    """

    name: str
    refreshes = False
    bounded = False

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.stores: list[MessageStore] = []

    def config(self) -> dict[str, Any]:
        return {}

    def make(self, *, remember_last: bool = True, connector: str = "sms", **config: Any) -> MessageStore:
        store = make_store(
            self.name,
            self.config() | config,
            option="message_cache",
            connector=connector,
            clock=self.clock,
            remember_last=remember_last,
        )
        result(store.start())
        self.stores.append(store)
        return store

    def advance(self, seconds: float) -> None:
        async def advance() -> None:
            self.clock.advance(seconds)

        result(advance())

    def stop(self) -> None:
        for store in self.stores:
            result(store.stop())
        assert self.clock.getDelayedCalls() == []


class MemoryStores(Stores):
    name = "memory"
    bounded = True


class ClockedSqliteStore(SqliteStore):
    """A store for which the test's clock is the wall clock, too."""

    def __init__(self, clock: Any, **options: Any) -> None:
        super().__init__(clock, wall_clock=wall_clock(clock), **options)


CLOCKED_SQLITE = f"{__name__}.{ClockedSqliteStore.__name__}"


class SqliteStores(Stores):
    name = CLOCKED_SQLITE

    def __init__(self) -> None:
        super().__init__()
        self.clock = ThreadedClock()
        self._folder = tempfile.TemporaryDirectory(prefix="junebug-turn-sqlite-")

    def config(self) -> dict[str, Any]:
        return {"path": f"{self._folder.name}/folder/cache.db"}

    def stop(self) -> None:
        super().stop()
        self._folder.cleanup()


# Takes the seconds from what every key with the prefix has left.
_ADVANCE = """
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
    local left = redis.call('PTTL', key)
    assert(left >= 0, key .. ' never expires')
    if left <= tonumber(ARGV[2]) then
        redis.call('DEL', key)
    else
        redis.call('PEXPIRE', key, left - ARGV[2])
    end
end
"""


async def refused(store: MessageStore, word: str) -> None:
    """Wait until the server refuses what is stored with this word."""

    async def refuses() -> bool:
        try:
            await store.store_inbound(message("refused"))
        except CacheError as error:
            return word in str(error.__cause__)
        return False

    for _ in range(200):
        if await refuses():
            return
        await deferLater(reactor, 0.05)
    pytest.fail(f"the server never said {word}: {store.status()}")


_server: list[RedisServer] = []


def redis_server() -> RedisServer:
    """The server of the test run, made when the first test asks for it; it ends with the process."""
    if not _server:
        server = RedisServer()
        server.start()
        _server.append(server)
    return _server[0]


class RedisStores(Stores):
    name = "redis"
    refreshes = True

    def __init__(self) -> None:
        super().__init__()
        self.clock = reactor
        self.server = redis_server()
        self.prefix = uuid.uuid4().hex

    def config(self) -> dict[str, Any]:
        return {"url": self.server.url, "key_prefix": self.prefix}

    def advance(self, seconds: float) -> None:
        self.server.cli("EVAL", _ADVANCE, "0", self.prefix, str(int(seconds * 1000)))

    def stop(self) -> None:
        for store in self.stores:
            result(store.stop())


STORES: dict[str, type[Stores]] = {"memory": MemoryStores, "sqlite": SqliteStores, "redis": RedisStores}
