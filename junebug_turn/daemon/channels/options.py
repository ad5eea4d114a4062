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
        "The store of channels that programs create at run time. Without it this API is switched off.",
        None,
    )
    url: str | None = option(
        optional(ValueType("URL", _redis_url)),
        "The Redis server, redis://user:password@host:port/database. It can be the Redis of a Junebug.",
        None,
        secret=True,
    )
    key_prefix: str = option(types.TEXT, "A prefix for all keys in Redis.", "")
    path: str | None = option(
        optional(types.FILLED),
        "The file of a SQLite store. The file and its folder are created if they are missing.",
        None,
    )
    cache_timeout: float = option(
        types.seconds(60), "The time limit of one operation of the store.", CACHE_TIMEOUT
    )
    http_bind: ListenAddress | None = option(
        optional(BIND),
        "The address of this API and its channels. By default that of http_bind.",
        None,
    )
    base_path: str = option(types.PATH, "The path before /channels and /routers, for example /jb.", "")
    api_auth: Credentials | None = option(
        optional(CREDENTIALS),
        "The tokens and the users with passwords that may use this API and its channels. Without "
        "it everybody may.",
        None,
        secret=True,
    )
    extra_types: list[str] | None = option(
        optional(types.TEXTS), "Further types of channels, beside telnet, xmpp, smpp and dmark.", None
    )
    defaults: Mapping[str, Any] = option(
        _MAPPING,
        "Default options of all these channels, the same as for application: junebug.",
        attrs.Factory(dict),
        secret=True,
    )
    max_logs: int = option(types.whole(1, 10000), "How many log lines of each channel the API can show.", 100)
    rabbitmq_management_interface: str | None = option(
        optional(types.FILLED),
        "The host:port of RabbitMQ's management API. With it, /health shows the rates of the queues.",
        None,
    )
