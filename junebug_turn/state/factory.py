"""Creation of a message store from an application's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from junebug_turn.config.classpath import find_class
from junebug_turn.config.scalars import resolved
from junebug_turn.errors import ConfigError
from junebug_turn.state.message_store import MessageStore

_JUNEBUG = "vumi2.applications.junebug_message_api.junebug_state_cache"
_MEMORY = "junebug_turn.state.memory.MemoryStore"
_REDIS = "junebug_turn.state.redis.store.RedisStore"
_SQLITE = "junebug_turn.state.sqlite.store.SqliteStore"

# Short names, and the class paths that existing configuration files carry.
_ALIASES = {
    "memory": _MEMORY,
    "redis": _REDIS,
    "sqlite": _SQLITE,
    "junebug_turn.caches.memory.MemoryCache": _MEMORY,
    "junebug_turn.caches.redis.RedisCache": _REDIS,
    "junebug_turn.caches.sqlite.SqliteCache": _SQLITE,
    "MemoryMessageCache": _MEMORY,
    "vumi2.message_caches.MemoryMessageCache": _MEMORY,
    f"{_JUNEBUG}.InMemorySmppCache": _MEMORY,
    f"{_JUNEBUG}.MemoryJunebugStateCache": _MEMORY,
}


def make_store(
    class_path: str,
    config: Mapping[str, Any],
    *,
    option: str,
    connector: str,
    clock: IReactorTime,
    remember_last: bool = False,
) -> MessageStore:
    """Make the store that ``class_path`` names: a short name, an alias, or the path of a subclass of ``MessageStore``.

    :param option: ``state_cache`` or ``message_cache``: the prefix of the options' names
    :param remember_last: whether the application asks for the last inbound message of an address
    :raises ConfigError: there is no such class, or it can't use the options
    """
    class_path = _ALIASES.get(class_path, class_path)
    store_class: type[MessageStore] = find_class(
        class_path,
        MessageStore,  # type: ignore[type-abstract]  # a subclass may be abstract, too
        key=f"{option}_class",
        base_path=f"{MessageStore.__module__}.{MessageStore.__name__}",
    )
    if not isinstance(config, Mapping):
        raise ConfigError(f"{option}_config: must be a mapping")
    # Ours read them by their options' types; another class expects numbers as YAML has them.
    ours = class_path in _ALIASES.values()
    return store_class.from_config(
        config if ours else resolved(dict(config)),
        option=option,
        connector=connector,
        clock=clock,
        remember_last=remember_last,
    )
