"""Claims: the requests that are known by a key, for all processes that share a store.

Whoever handles a request claims its key first.  A request with the same key is a repeat then, at whatever process it
comes, and gets the result of the first one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping

from attrs import field, frozen

from junebug_turn.errors import UnreadableEntry
from junebug_turn.messages import strictjson


@frozen
class Claim:
    """Claim of one request.

    :ivar owner: an id that no other claim has
    :ivar content: the digest of the request's content, or empty; a repeat has the same
    :ivar result: the body of its answer; None while it is under way
    :ivar answered: whether the answer has reached its client: the key is free then, and only a repeat that waited for
        this claim gets its result
    """

    owner: str
    content: bytes = b""
    result: bytes | None = field(default=None, repr=False)
    answered: bool = False

    def to_json(self) -> bytes:
        """Return the claim as JSON."""
        result = None if self.result is None else self.result.decode("utf-8")
        return strictjson.dumps([self.owner, self.content.hex(), result, self.answered])

    @classmethod
    def from_json(cls, packed: bytes) -> Claim:
        """Read a claim from the JSON of ``to_json``.

        :raises UnreadableEntry: it is another value
        """
        try:
            owner, content, result, answered = strictjson.loads_stored(packed)
            found = None if result is None else result.encode("utf-8")
            return cls(str(owner), bytes.fromhex(content), found, bool(answered))
        except (ValueError, TypeError, AttributeError):
            raise UnreadableEntry("a claim in the cache can't be read") from None

    def withstands(self, other: Claim, awaited: str) -> bool:
        """Return whether this claim, which is stored, stays in front of another one.

        :param awaited: the owner of the claim whose result the other one waits for
        """
        return self.owner != other.owner and (not self.answered or self.owner == awaited)


class Claims(ABC):
    """The claims of one connector.

    Each method is one step, for all processes that share the store, and has the same effect when it runs twice.  Each
    raises ``CacheError`` where the store can't write now, within its ``cache_timeout``.

    :ivar before_stop: called, and waited for, before the store stops
    """

    before_stop: Callable[[], Awaitable[None]] | None = None

    async def stop(self) -> None:
        """Have written what is not written yet; the store calls this before it stops."""
        if self.before_stop is not None:
            await self.before_stop()

    @abstractmethod
    async def claim(self, key: bytes, claim: Claim, seconds: float, awaited: str = "") -> Claim | None:
        """Store a claim for so many seconds, and return None; or return the claim that is in front of it.

        A claim that was answered is in front of none, except of one that waits for its result.

        :param key: of up to 255 bytes
        :param awaited: the owner of the claim whose result is waited for
        """

    @abstractmethod
    async def update(self, claims: Mapping[bytes, Claim], seconds: float) -> None:
        """Store claims again, for so many seconds from now, each unless that of another owner is there.

        :param claims: by their keys
        """

    @abstractmethod
    async def remove(self, key: bytes, owner: str) -> None:
        """Remove a claim, unless that of another owner is there."""
