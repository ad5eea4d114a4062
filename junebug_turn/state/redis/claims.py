"""Claims of requests in a Redis: ``<connector>:requests:<digest of the key>``, a string, ``Claim``'s JSON.

Tested by tests/unit/state/test_claims.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from itertools import chain
from typing import Any

from junebug_turn.errors import UnreadableEntry
from junebug_turn.state.claims import Claim, Claims
from junebug_turn.state.redis import scripts
from junebug_turn.state.redis.values import milliseconds


class RedisClaims(Claims):
    """Claims in a Redis.

    :param execute: runs a command
    :param evaluate: runs a script: its text, the key, the arguments
    :param channel: the beginning of the keys, without the colon
    """

    def __init__(
        self, execute: Callable[..., Awaitable[Any]], evaluate: Callable[..., Awaitable[Any]], channel: str
    ) -> None:
        self._execute = execute
        self._evaluate = evaluate
        self._prefix = f"{channel}:requests:"

    async def claim(self, key: bytes, claim: Claim, seconds: float, awaited: str = "") -> Claim | None:
        name, packed, ttl = self._name(key), claim.to_json(), milliseconds(seconds)
        # Nearly all are new, and a script costs more.
        if not awaited and await self._execute("SET", name, packed, "PX", ttl, "NX"):
            return None
        found = await self._evaluate(scripts.CLAIM, name, claim.owner, packed, ttl, awaited)
        if found is None:
            return None
        try:
            return Claim.from_json(found)
        except UnreadableEntry:
            # It is nobody's claim: others can write to the server, too.
            await self._execute("SET", name, packed, "PX", ttl)
            return None

    async def update(self, claims: Mapping[bytes, Claim], seconds: float) -> None:
        values = [(_digest(key), claim.owner, claim.to_json()) for key, claim in claims.items()]
        ttl = milliseconds(seconds)
        await self._evaluate(scripts.UPDATE_CLAIMS, self._prefix, ttl, *chain.from_iterable(values))

    async def remove(self, key: bytes, owner: str) -> None:
        await self._evaluate(scripts.REMOVE_CLAIM, self._name(key), owner)

    def _name(self, key: bytes) -> str:
        return self._prefix + _digest(key)


def _digest(key: bytes) -> str:
    # A key may be what a client chose: so it has one length, and says nothing.
    return sha256(key).hexdigest()
