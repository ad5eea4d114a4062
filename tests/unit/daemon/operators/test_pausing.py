"""Pausing of connectors: its order, what the stores have of it, and other processes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.daemon.operators.pausing import FOLLOW_INTERVAL, Pausing
from junebug_turn.errors import CacheError
from junebug_turn.state.connector_settings import ConnectorSettings


class Settings(ConnectorSettings):
    """Settings that several processes share; ``fault`` is raised by all that they are asked."""

    kept = True

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.fault: Exception | None = None

    async def fetch(self, name: str) -> Any:
        if self.fault is not None:
            raise self.fault
        return self.values.get(name)

    async def store(self, name: str, value: Any) -> None:
        if self.fault is not None:
            raise self.fault
        self.values[name] = value


class Process:
    """A process with the connectors "a" and "b".

    :ivar paused: the queues that its broker doesn't consume
    """

    def __init__(self, **settings: ConnectorSettings) -> None:
        self.clock = Clock()
        self.paused: set[str] = set()
        self.pausing: Any = Pausing(
            self.clock,
            self,  # type: ignore[arg-type]  # its broker, too
            lambda: ["a", "b"],
            lambda name: settings.get(name) or ConnectorSettings(),
        )
        Deferred.fromCoroutine(self.pausing.start())

    async def pause(self, queues: list[str], paused: bool) -> None:
        (self.paused.update if paused else self.paused.difference_update)(queues)

    def order(self, name: str, paused: bool) -> bool:
        kept: list[bool] = []
        Deferred.fromCoroutine(self.pausing.pause(name, paused)).addCallback(kept.append)
        return kept[0]


@pytest.fixture
def settings() -> Settings:
    return Settings()


def test_queues(settings: Settings) -> None:
    """Pausing stops the consuming of inbound messages and events of the connector, and of no other."""
    process = Process(a=settings)
    assert process.order("a", True)
    assert process.paused == {"a.inbound", "a.event"}
    assert process.pausing.is_paused("a")
    assert not process.pausing.is_paused("b")
    assert process.order("a", False)
    assert process.paused == set()


def test_a_store_that_keeps_nothing() -> None:
    """A connector whose store can't keep it is paused all the same, for as long as the process runs."""
    process = Process()
    assert not process.order("a", True)
    process.clock.advance(FOLLOW_INTERVAL)
    assert process.paused == {"a.inbound", "a.event"}


def test_another_process(settings: Settings) -> None:
    """A pause holds at the start of the next process, and in one that shares the store, and so does its end."""
    first, other = Process(a=settings), Process(a=settings)
    first.order("a", True)
    assert Process(a=settings).paused == {"a.inbound", "a.event"}
    other.clock.advance(FOLLOW_INTERVAL)
    assert other.paused == {"a.inbound", "a.event"}
    other.order("a", False)
    first.clock.advance(FOLLOW_INTERVAL)
    assert first.paused == set()


def test_a_store_that_is_away(settings: Settings) -> None:
    """What can't be stored now is done now and stored later; what can't be read changes nothing."""
    process = Process(a=settings)
    settings.fault = CacheError("away")
    assert not process.order("a", True)
    process.clock.advance(FOLLOW_INTERVAL)
    assert process.paused == {"a.inbound", "a.event"}
    settings.fault = None
    process.clock.advance(FOLLOW_INTERVAL)
    assert settings.values == {"paused": True}
    settings.fault = CacheError("away")
    process.clock.advance(FOLLOW_INTERVAL)
    assert process.paused == {"a.inbound", "a.event"}


def test_an_old_answer(settings: Settings) -> None:
    """An answer of the store from before an order doesn't undo it."""
    process = Process(a=settings)
    answer: Deferred[Any] = Deferred()
    settings.fetch = lambda name: answer  # type: ignore[assignment, return-value]
    process.clock.advance(FOLLOW_INTERVAL)
    process.order("a", True)
    answer.callback(None)
    assert process.paused == {"a.inbound", "a.event"}


def test_the_end(settings: Settings) -> None:
    """A process that stops follows the stores no more."""
    process = Process(a=settings)
    process.pausing.stop()
    assert process.clock.getDelayedCalls() == []
