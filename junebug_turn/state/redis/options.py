"""Options of the store in a Redis."""

from __future__ import annotations

from attrs import frozen

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.config.types import ValueType
from junebug_turn.state.options import SECONDS, ExternalStoreConfig
from junebug_turn.state.redis.address import RedisAddress

_URL = ValueType("URL", RedisAddress.from_url)


@frozen(kw_only=True)
class RedisConfig(ExternalStoreConfig):
    """The options of the Redis store: server, keys and lifetimes."""

    url: RedisAddress = option(
        _URL, "The server, its database and the login there; or the sentinels that name it.", secret=True
    )
    key_prefix: str = option(types.TEXT, "The beginning of all keys.", "")
    inbound_ttl: float | None = option(SECONDS, "The timeout of inbound messages, where it is another.", None)
    outbound_ttl: float | None = option(SECONDS, "The timeout of all others, where it is another.", None)
