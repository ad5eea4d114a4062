"""Steps of messages in a Redis, each message's in a key of its own: ``<channel>:steps:<message id>``.

Junebug has no such keys, and never looks for any.  Tested by tests/unit/state/test_journal.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from junebug_turn.state.journal import MAX_BYTES, JournalEntries
from junebug_turn.state.redis import scripts


class RedisSteps(JournalEntries):
    """Steps of messages in a Redis.

    :param evaluate: runs a script: its text, the key, the arguments
    :param execute: runs a command
    :param prefix: the beginning of the keys
    :param ttl: milliseconds for which the steps of a message live since the last one
    """

    def __init__(
        self,
        evaluate: Callable[..., Awaitable[Any]],
        execute: Callable[..., Awaitable[Any]],
        prefix: str,
        ttl: int,
    ) -> None:
        self._evaluate = evaluate
        self._execute = execute
        self._prefix = prefix
        self._ttl = ttl

    async def append(self, lines: Mapping[str, bytes]) -> None:
        added = [part for message_id, more in lines.items() for part in (message_id, more)]
        await self._evaluate(scripts.APPEND_LINES, self._prefix, self._ttl, MAX_BYTES, *added)

    async def fetch(self, message_id: str) -> bytes:
        key = f"{self._prefix}{message_id}".encode("utf-8", "surrogatepass")
        found: bytes | None = await self._execute("GET", key)
        return found or b""
