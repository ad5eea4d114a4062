"""The caches: what they can do, the ones that come with us, and how one is made from its options."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from twisted.internet.interfaces import IReactorTime

from junebug_turn.caches.interface import Cache, Outbound
from junebug_turn.errors import ConfigError

__all__ = ["Cache", "Outbound", "make_cache"]

_MEMORY = "junebug_turn.caches.memory.MemoryCache"
_JUNEBUG = "vumi2.applications.junebug_message_api.junebug_state_cache"

# Short names, and the class paths that existing configuration files carry.
_ALIASES = {
    "memory": _MEMORY,
    "redis": "junebug_turn.caches.redis.RedisCache",
    "sqlite": "junebug_turn.caches.sqlite.SqliteCache",
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
    cache_class = _find(_ALIASES.get(class_path, class_path), f"{option}_class")
    if not isinstance(config, Mapping):
        raise ConfigError(f"{option}_config: must be a mapping")
    return cache_class.from_config(config, option=option, connector=connector, clock=clock)


def _find(class_path: str, key: str) -> type[Cache]:
    module_name, _, name = class_path.rpartition(".")
    try:
        module = import_module(module_name)
    except Exception as error:
        # Whatever a module of the user's own raises: there is no cache in it for us.
        raise ConfigError(f"{key}: {class_path!r} can't be imported: {error!r}") from None
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Cache)):
        raise ConfigError(f"{key}: {class_path!r} is not a {Cache.__module__}.Cache")
    return found
