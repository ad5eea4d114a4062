"""The caches: what they can do, the ones that come with us, and how one is made from its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from junebug_turn.config.classpath import find_class
from junebug_turn.errors import ConfigError
from junebug_turn.state.message_store import Cache

_MEMORY = "junebug_turn.state.memory.MemoryCache"
_JUNEBUG = "vumi2.applications.junebug_message_api.junebug_state_cache"

# Short names, and the class paths that existing configuration files carry.
_ALIASES = {
    "memory": _MEMORY,
    "redis": "junebug_turn.state.redis.store.RedisCache",
    "sqlite": "junebug_turn.state.sqlite.store.SqliteCache",
    "MemoryMessageCache": _MEMORY,
    "vumi2.message_caches.MemoryMessageCache": _MEMORY,
    f"{_JUNEBUG}.InMemorySmppCache": _MEMORY,
    f"{_JUNEBUG}.MemoryJunebugStateCache": _MEMORY,
}


def make_cache(
    class_path: str, config: Mapping[str, Any], *, option: str, connector: str, clock: IReactorTime
) -> Cache:
    """The cache that ``class_path`` names: a short name, an alias, or the path of a subclass of ``Cache``.

    :param option: ``state_cache`` or ``message_cache``: what the names of the options begin with
    :raises ConfigError: no such class, or options that it can't use
    """
    cache_class: type[Cache] = find_class(
        _ALIASES.get(class_path, class_path),
        Cache,  # type: ignore[type-abstract]  # a subclass may be abstract, too
        key=f"{option}_class",
        base_path=f"{Cache.__module__}.Cache",
    )
    if not isinstance(config, Mapping):
        raise ConfigError(f"{option}_config: must be a mapping")
    return cache_class.from_config(config, option=option, connector=connector, clock=clock)
