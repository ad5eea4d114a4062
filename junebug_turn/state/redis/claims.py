"""Claims of requests in a Redis: ``<connector>:requests:<digest of the key>``, a string, ``Claim``'s JSON.

Tested by tests/unit/state/test_claims.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from junebug_turn.errors import UnreadableEntry
from junebug_turn.state.claims import Claim, Claims
from junebug_turn.state.redis import scripts
from junebug_turn.state.redis.values import milliseconds


class RedisClaims(Claims):
    """Claims in a Redis.

    :param evaluate: runs a script: its text, the key, the arguments
    :param channel: the beginning of the keys, without the colon
    """

    def __init__(self, evaluate: Callable[..., Awaitable[Any]], channel: str) -> None:
        self._evaluate = evaluate
        self._prefix = f"{channel}:requests:"

    async def claim(self, key: bytes, claim: Claim, seconds: float, awaited: str = "") -> Claim | None:
        name, ttl = self._name(key), milliseconds(seconds)
        found = await self._evaluate(scripts.CLAIM, name, claim.owner, claim.to_json(), ttl, awaited)
        if found is None:
            return None
        try:
            return Claim.from_json(found)
        except UnreadableEntry:
            # It is nobody's claim: others can write to the server, too.
            await self._evaluate(scripts.SET_CLAIM, name, claim.owner, claim.to_json(), ttl)
            return None

    async def update(self, key: bytes, claim: Claim, seconds: float) -> None:
        await self._evaluate(
            scripts.UPDATE_CLAIM, self._name(key), claim.owner, claim.to_json(), milliseconds(seconds)
        )

    async def remove(self, key: bytes, owner: str) -> None:
        await self._evaluate(scripts.REMOVE_CLAIM, self._name(key), owner)

    def _name(self, key: bytes) -> str:
        # A key may be what a client chose: as a digest it has one length and says nothing.
        return self._prefix + sha256(key).hexdigest()
