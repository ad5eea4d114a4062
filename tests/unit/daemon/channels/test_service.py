"""Changes of channels: each is in effect before its answer, or fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.consumer import Consumer
from junebug_turn.amqp.topology import Queue, Topology
from junebug_turn.applications.base import ApplicationOptions, Services
from junebug_turn.connectors.connector import Connector
from junebug_turn.daemon.channels.options import ChannelsOptions
from junebug_turn.daemon.channels.runner import ChannelRunner
from junebug_turn.daemon.channels.running import Parts, RunningChannel
from junebug_turn.daemon.channels.service import ChannelsService
from junebug_turn.daemon.channels.settings import channels_settings
from junebug_turn.errors import ChannelNotFound, QueuesRefused
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.listening import BIND
from junebug_turn.http.mounts import Mounts
from junebug_turn.messages import strictjson
from junebug_turn.state.channel_store import ChannelStore, Definition, Key
from junebug_turn.state.sqlite.store import SqliteStore
from junebug_turn.telemetry.logging.channel_logs import ChannelLogs
from junebug_turn.telemetry.metrics import Metrics
from tests.support.application_harness import Recorder
from tests.support.fake_broker import FakeBroker


class SlowBroker(FakeBroker):
    """A broker that declares queues, and ends consumers, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[None]] = []
        self.topology = Topology()

    def refuse(self, *names: str) -> None:
        """Refuse the queues with these names, and no other."""
        self.topology.faults = {f"queue {name}": "403 ACCESS_REFUSED" for name in names}

    def forget(self, *queues: Queue) -> None:
        pass

    async def declare_now(self, queues: Collection[Queue]) -> None:
        await self._wait()

    async def stop_consumer(self, consumer: Consumer, timeout: float) -> None:
        await self._wait()

    async def _wait(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        await waiting

    def work(self) -> None:
        """Do all that waits."""
        while self.waiting:
            self.waiting.pop(0).callback(None)


class Store(ChannelStore):
    """A store of channels in memory.

    :ivar replaced: is called when a definition is stored, before its caller knows
    """

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[Key, bytes] = {}
        self.changes = 0
        self.replaced: Callable[[], Any] = lambda: None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def status(self) -> Mapping[str, Any]:
        return {"ok": True}

    async def replace(self, key: Key, before: Definition | None, properties: Mapping[str, Any]) -> bool:
        self.texts[key] = strictjson.dumps(dict(properties))
        self.changes += 1
        self.replaced()
        return True

    async def remove(self, key: Key) -> None:
        del self.texts[key]
        self.changes += 1

    async def _read(self, revision: str) -> tuple[str, Iterable[tuple[Key, bytes]]] | None:
        return None if revision == str(self.changes) else (str(self.changes), list(self.texts.items()))


class Bench:
    """A service of channels on such a store and broker."""

    def __init__(self) -> None:
        self.broker = SlowBroker()
        self.store = Store()
        messages = SqliteStore(Clock(), connector="", path=":memory:")
        settings = channels_settings(
            ChannelsOptions(store="sqlite", path=":memory:"), BIND.read("127.0.0.1:8080"), "a file"
        )
        runner = ChannelRunner(
            settings=settings,
            parts=Parts(cast(Broker, self.broker), self._services, messages),
            mounts=Mounts({}),
            authenticator=Authenticator(None),
            logs=ChannelLogs(10),
            metrics=Metrics(),
            applications={},
            configured=frozenset(),
        )
        self.service = ChannelsService(Clock(), self.store, messages, runner)

    def _services(self, options: ApplicationOptions, store: Any, broker: Any, queues: str) -> Services:
        connector, deliverer = Connector(broker, queues), cast(Any, Recorder())
        return Services(
            connector=connector,
            store=store,
            deliverer=deliverer,
            metrics=Metrics(),
            clock=Clock(),
            max_json_depth=10,
        )

    def poll(self) -> Deferred[Any]:
        """What another daemon has changed is looked for."""
        return Deferred.fromCoroutine(self.service.refresh())


ONE = Key.channel("c1")
HTTP: dict[str, Any] = {"type": "smpp", "config": {}, "mo_url": "http://h/"}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_new_channel_that_a_poll_finds_first(bench: Bench) -> None:
    """The queues of a new channel are declared before the answer, also where the look at the store has found the
    channel first, and declares them: otherwise a message that is published after the answer would have no queue."""
    bench.store.replaced = bench.poll
    creating = Deferred.fromCoroutine(bench.service.create(ONE, HTTP))
    assert bench.broker.waiting
    assert not creating.called
    bench.broker.work()
    assert creating.called


def test_a_change_that_a_poll_finds_first(bench: Bench) -> None:
    """The same holds for a change that has other consumers."""
    creating = Deferred.fromCoroutine(bench.service.create(ONE, HTTP))
    bench.broker.work()
    assert creating.called
    bench.store.replaced = bench.poll
    changing = Deferred.fromCoroutine(
        bench.service.change(ONE, lambda before: HTTP | {"amqp_queue": "q"}, ChannelNotFound(""))
    )
    assert bench.broker.waiting
    assert not changing.called
    bench.broker.work()
    assert changing.called
    assert {"q.inbound", "q.outbound"} <= set(bench.broker.declared)


def test_a_change_beside_a_slow_one(bench: Bench) -> None:
    """While a change of one channel takes its time, another channel is changed and shown at once."""
    for key in (ONE, Key.channel("c2")):
        Deferred.fromCoroutine(bench.service.create(key, HTTP))
        bench.broker.work()
    slow = Deferred.fromCoroutine(
        bench.service.change(ONE, lambda before: HTTP | {"amqp_queue": "q"}, ChannelNotFound(""))
    )
    missing = ChannelNotFound("")
    quick = Deferred.fromCoroutine(
        bench.service.change(Key.channel("c2"), lambda before: HTTP | {"label": "x"}, missing)
    )
    shown = Deferred.fromCoroutine(bench.service.find(ONE))
    assert bench.broker.waiting
    assert (slow.called, quick.called, shown.called) == (False, True, True)
    bench.broker.work()
    assert slow.called


def test_a_slow_change_of_another_daemon(bench: Bench) -> None:
    """What another daemon has changed is found by any request, which doesn't wait for it where it is about another
    channel."""
    for key in (ONE, Key.channel("c2")):
        Deferred.fromCoroutine(bench.service.create(key, HTTP))
        bench.broker.work()
    Deferred.fromCoroutine(bench.store.replace(ONE, None, HTTP | {"amqp_queue": "q"}))
    shown = Deferred.fromCoroutine(bench.service.find(Key.channel("c2")))
    assert bench.broker.waiting
    assert shown.called
    changed = Deferred.fromCoroutine(bench.service.change(ONE, lambda before: HTTP, ChannelNotFound("")))
    assert not changed.called
    bench.broker.work()
    assert changed.called


def test_two_changes_of_one_channel(bench: Bench) -> None:
    """Changes that come while the one before is under way follow it, and the last one is in effect."""
    Deferred.fromCoroutine(bench.service.create(ONE, HTTP))
    bench.broker.work()
    changes = [
        Deferred.fromCoroutine(
            bench.service.change(
                ONE, lambda before, name=name: HTTP | {"amqp_queue": name}, ChannelNotFound("")
            )
        )
        for name in ("first", "second")
    ]
    assert [each.called for each in changes] == [False, False]
    bench.broker.work()
    assert [each.called for each in changes] == [True, True]
    assert "second.outbound" in bench.broker.handlers


def bridged(bench: Bench, queue: str) -> Deferred[Any]:
    """A change of the channel, which is bridged to other queues."""
    change = bench.service.change(ONE, lambda before: HTTP | {"amqp_queue": queue}, ChannelNotFound(""))
    changing = Deferred.fromCoroutine(change)
    bench.broker.work()
    return changing


def fault(changing: Deferred[Any]) -> Any:
    faults: list[Any] = []
    changing.addErrback(faults.append)
    return faults[0].value


def test_a_new_channel_whose_queues_are_refused(bench: Bench) -> None:
    """A channel whose queues the broker refuses is not created: no channel is half there."""
    bench.broker.refuse("c1.inbound")
    creating = Deferred.fromCoroutine(bench.service.create(ONE, HTTP))
    bench.broker.work()
    error = fault(creating)
    assert isinstance(error, QueuesRefused)
    assert str(error) == "it is not created: the queue c1.inbound can't be declared: 403 ACCESS_REFUSED"
    assert (bench.store.texts, bench.service.definitions) == ({}, {})


def test_a_change_whose_queues_are_refused(bench: Bench) -> None:
    """A change whose queues the broker refuses is stored and fails, as does the same change again; it succeeds as soon
    as the broker has them."""
    Deferred.fromCoroutine(bench.service.create(ONE, HTTP))
    bench.broker.work()
    bench.broker.refuse("q.outbound")
    for _ in range(2):
        error = fault(bridged(bench, "q"))
        assert isinstance(error, QueuesRefused)
        assert "stored" in str(error)
        assert "the queue q.outbound can't be declared" in str(error)
    assert bench.service.definitions[ONE].properties["amqp_queue"] == "q"
    bench.broker.refuse()
    changed: list[Any] = []
    bridged(bench, "q").addCallback(changed.append)
    assert changed


def test_a_change_that_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own while a change is applied is the request's answer too, and holds for no later change."""
    Deferred.fromCoroutine(bench.service.create(ONE, HTTP))
    bench.broker.work()

    async def fail(self: RunningChannel, options: Any) -> None:
        raise ZeroDivisionError()

    with monkeypatch.context() as patch:
        patch.setattr(RunningChannel, "change", fail)
        assert isinstance(fault(bridged(bench, "q")), RuntimeError)
    changed: list[Any] = []
    bridged(bench, "another").addCallback(changed.append)
    assert changed
