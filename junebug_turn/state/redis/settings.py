"""Settings of a connector in a Redis: the hash ``<connector>:settings``, name -> JSON, without expiry.

Tested by tests/unit/state/test_message_store.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from junebug_turn.messages import strictjson
from junebug_turn.state.connector_settings import ConnectorSettings


class RedisSettings(ConnectorSettings):
    """Settings in a Redis, which all processes share.

    :param execute: runs a command
    :param channel: the beginning of the key, without the colon
    """

    kept = True

    def __init__(self, execute: Callable[..., Awaitable[Any]], channel: str) -> None:
        self._execute = execute
        self._key = f"{channel}:settings"

    async def fetch(self, name: str) -> Any:
        packed = await self._execute("HGET", self._key, name)
        try:
            return None if packed is None else strictjson.loads_stored(packed)
        except ValueError:
            return None

    async def store(self, name: str, value: Any) -> None:
        if value is None:
            await self._execute("HDEL", self._key, name)
        else:
            await self._execute("HSET", self._key, name, strictjson.dumps(value))
