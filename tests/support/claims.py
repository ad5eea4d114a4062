"""Claims in memory, for tests with a clock of their own; the conformance suite of the claims runs against them, too."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.task import Clock

from junebug_turn.errors import CacheError
from junebug_turn.state.claims import Claim, Claims


class MemoryClaims(Claims):
    """Claims that several processes of a test share.

    :ivar away: whether each operation fails
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stored: dict[bytes, tuple[Claim, float]] = {}
        self.away = False

    def __len__(self) -> int:
        return sum(until > self._clock.seconds() for _, until in self._stored.values())

    def _get(self, key: bytes) -> Claim | None:
        if self.away:
            raise CacheError("the store is away")
        claim, until = self._stored.get(key, (None, 0.0))
        return claim if until > self._clock.seconds() else None

    def _put(self, key: bytes, claim: Claim, seconds: float) -> None:
        self._stored[key] = claim, self._clock.seconds() + seconds

    async def claim(self, key: bytes, claim: Claim, seconds: float, awaited: str = "") -> Claim | None:
        found = self._get(key)
        if found is not None and found.withstands(claim, awaited):
            return found
        self._put(key, claim, seconds)
        return None

    async def update(self, claims: Mapping[bytes, Claim], seconds: float) -> None:
        for key, claim in claims.items():
            found = self._get(key)
            if found is None or found.owner == claim.owner:
                self._put(key, claim, seconds)

    async def remove(self, key: bytes, owner: str) -> None:
        found = self._get(key)
        if found is not None and found.owner == owner:
            del self._stored[key]
