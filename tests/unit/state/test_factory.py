"""Stores that are made from options: class paths, aliases, and options that can't be used."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.errors import ConfigError
from junebug_turn.state.factory import make_store
from junebug_turn.state.memory import MemoryStore
from junebug_turn.state.redis.store import RedisStore
from junebug_turn.state.sqlite.store import SqliteStore
from tests.support.store_harness import (
    reactor,
)


@pytest.mark.parametrize(
    "class_path",
    [
        "memory",
        "MemoryMessageCache",
        "vumi2.message_caches.MemoryMessageCache",
        "vumi2.applications.junebug_message_api.junebug_state_cache.InMemorySmppCache",
        "vumi2.applications.junebug_message_api.junebug_state_cache.MemoryJunebugStateCache",
        "junebug_turn.caches.memory.MemoryCache",
        "junebug_turn.state.memory.MemoryStore",
    ],
)
def test_class_paths(class_path: str, clock: Clock) -> None:
    """The class paths that existing files carry, and the short name, name the store in memory."""
    store = make_store(class_path, {}, option="state_cache", connector="sms", clock=clock)
    assert type(store) is MemoryStore


@pytest.mark.parametrize(
    ("class_path", "config", "store_class"),
    [
        ("junebug_turn.caches.redis.RedisCache", {"url": "redis://localhost"}, RedisStore),
        ("junebug_turn.caches.sqlite.SqliteCache", {"path": "var/none.db"}, SqliteStore),
    ],
)
def test_former_class_paths(class_path: str, config: dict[str, str], store_class: type) -> None:
    """The class paths from before the modules moved still name the stores in Redis and in a SQLite file."""
    store = make_store(class_path, config, option="state_cache", connector="sms", clock=reactor)
    assert type(store) is store_class


class OwnStore(MemoryStore):
    """A user's own, importable by its path."""


not_a_class = object()


def test_own_class(clock: Clock) -> None:
    """A subclass of MessageStore of the user's own works by its path."""
    path = f"{__name__}.OwnStore"
    store = make_store(path, {"timeout": 5}, option="state_cache", connector="sms", clock=clock)
    assert type(store) is OwnStore


@pytest.mark.parametrize(
    "class_path",
    [
        "",
        "x",
        ".x",
        "x.",
        "no.such.Module",
        "junebug_turn.state.factory.Nothing",
        f"{__name__}.not_a_class",
        "os.path.join",
        "str",
    ],
)
def test_no_such_class(class_path: str, clock: Clock) -> None:
    """What can't be imported or is no store is one line that names the option."""
    with pytest.raises(ConfigError) as caught:
        make_store(class_path, {}, option="message_cache", connector="sms", clock=clock)
    (line,) = caught.value.lines
    assert line.startswith("message_cache_class: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("timeout", value) for value in (0, -1, True, "5 s", None, float("nan"), float("inf"), 10**400)],
        *[("max_entries", value) for value in (0, -1, True, 1.5, "five", None)],
        *[("store_event_info", value) for value in (0, "never", None)],
        ("timout", 5),
    ],
)
def test_bad_options(key: str, value: Any, clock: Clock) -> None:
    """An unknown option or a wrong value is one line that names it."""
    with pytest.raises(ConfigError) as caught:
        make_store("memory", {key: value}, option="state_cache", connector="sms", clock=clock)
    (line,) = caught.value.lines
    assert line.startswith(f"state_cache_config.{key}: ")


def test_every_fault_is_told(clock: Clock) -> None:
    """Each of several faults has its line."""
    with pytest.raises(ConfigError) as caught:
        make_store(
            "memory",
            {"a": 1, "timeout": 0},
            option="message_cache",
            connector="sms",
            clock=clock,
        )
    assert [line.partition(":")[0] for line in caught.value.lines] == [
        "message_cache_config.a",
        "message_cache_config.timeout",
    ]


def test_options_are_a_mapping(clock: Clock) -> None:
    """Options that are no mapping are one line that says so."""
    with pytest.raises(ConfigError, match="state_cache_config: must be a mapping"):
        make_store("memory", [], option="state_cache", connector="sms", clock=clock)
