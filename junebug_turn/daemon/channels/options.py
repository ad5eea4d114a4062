"""Options of the channels that are made at run time.

Tested by tests/unit/daemon/channels/test_settings.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.config.types import ValueType, optional
from junebug_turn.http.authentication import CREDENTIALS, Credentials
from junebug_turn.http.listening import BIND, ListenAddress
from junebug_turn.state.options import CACHE_TIMEOUT
from junebug_turn.state.redis.address import RedisAddress

REDIS, SQLITE = "redis", "sqlite"


def _redis_url(value: Any) -> str:
    RedisAddress.from_url(value)
    return str(value)


_MAPPING = attrs.evolve(types.MAPPING, merged=False)


@frozen(kw_only=True)
class ChannelsOptions:
    """The store of channels, and Junebug's HTTP API by which they are made and changed."""

    store: str | None = option(
        optional(types.choice(REDIS, SQLITE)),
        "Where the channels are that are made at run time; without it there are none, and no API for them.",
        None,
    )
    url: str | None = option(
        optional(ValueType("URL", _redis_url)),
        "The Redis server of the store, as redis://user:password@host:port/database; that of Junebug is one.",
        None,
        secret=True,
    )
    key_prefix: str = option(types.TEXT, "The beginning of all keys in Redis.", "")
    path: str | None = option(
        optional(types.FILLED),
        "The file of a SQLite store; it and its folder are made where they are missing.",
        None,
    )
    cache_timeout: float = option(
        types.seconds(60), "How long an operation of the store may take.", CACHE_TIMEOUT
    )
    http_bind: ListenAddress | None = option(
        optional(BIND),
        "The address of the API and of these channels, where it isn't that of http_bind.",
        None,
    )
    base_path: str = option(types.PATH, "The path before /channels and /routers, as /jb.", "")
    api_auth: Credentials | None = option(
        optional(CREDENTIALS),
        "Who may use the API and these channels: a list of tokens, and users with their passwords.",
        None,
        secret=True,
    )
    extra_types: list[str] | None = option(
        optional(types.TEXTS), "Types that a channel can have beside telnet, xmpp, smpp and dmark.", None
    )
    defaults: Mapping[str, Any] = option(
        _MAPPING,
        "Options of each of these channels, as those of application: junebug.",
        attrs.Factory(dict),
        secret=True,
    )
    max_logs: int = option(
        types.whole(1, 10000), "How many log lines about each channel are kept, for the API.", 100
    )
    rabbitmq_management_interface: str | None = option(
        optional(types.FILLED),
        "The host:port of the broker's management API, from which /health has the queues' rates.",
        None,
    )
