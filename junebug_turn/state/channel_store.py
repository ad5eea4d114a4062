"""Interface of the stores of channels: the definitions of the channels and routers that are made at run time.

A definition is JSON, and belongs to a ``Key``: a channel, a router, or a destination of a router.  Several daemons can
share a store; each asks ``fetch`` now and then, which costs little while nothing has changed.  A change names the
definition that it was made from, so that of two changes at once one is refused, and none is lost.

The store in Redis has the keys and the JSON of Junebug, the daemon of praekelt.org (``junebug/channel.py`` and
``RouterStore`` in ``junebug/stores.py``): an existing Redis is such a store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from junebug_turn.messages import strictjson

CHANNELS, ROUTERS, DESTINATIONS = "channels", "routers", "destinations"

REFUSAL = "the store of channels can't be read or written now"


@frozen(order=True)
class Key:
    """The name of a definition.

    :ivar kind: ``CHANNELS``, ``ROUTERS`` or ``DESTINATIONS``
    :ivar router: the router of a destination, else empty
    """

    kind: str
    id: str
    router: str = ""

    @classmethod
    def channel(cls, id: str) -> Key:
        """The key of a channel."""
        return cls(CHANNELS, id)

    @classmethod
    def of_router(cls, id: str) -> Key:
        """The key of a router."""
        return cls(ROUTERS, id)

    @classmethod
    def destination(cls, router: str, id: str) -> Key:
        """The key of a router's destination."""
        return cls(DESTINATIONS, id, router)


@frozen(eq=False)
class Definition:
    """A definition as it is stored; ``fetch`` returns the same object as long as it is not changed.

    :ivar text: the stored bytes
    :ivar properties: the JSON object that they are; not to be changed
    """

    text: bytes = field(repr=False)
    properties: Mapping[str, Any] = field(repr=False)


Definitions = Mapping[Key, Definition]


class ChannelStore(ABC):
    """Base of the stores of channels.

    Every method but ``start``, ``stop`` and ``status`` raises ``CacheError`` where the store can't be read or written
    now; ``fetch`` may be asked again at any time.
    """

    log = Logger()

    def __init__(self) -> None:
        self._definitions: Definitions = MappingProxyType({})
        self._revision = ""
        # Answers come in any order: an older one must not replace a newer one.
        self._lock = DeferredLock()

    @abstractmethod
    async def start(self) -> None:
        """Get ready; it does not wait until the store can be reached."""

    @abstractmethod
    async def stop(self) -> None:
        """Release everything that the other methods took."""

    @abstractmethod
    def status(self) -> Mapping[str, Any]:
        """Return the state for ``/health``: ``ok``, and the fault where it is not.  No secrets."""

    @abstractmethod
    async def replace(self, key: Key, before: Definition | None, properties: Mapping[str, Any]) -> bool:
        """Store a definition in place of ``before``; on return it is on the disk, where the store has one.

        :param before: None for a new one
        :return: whether it was stored: not, where another change came first
        """

    @abstractmethod
    async def remove(self, key: Key) -> None:
        """Remove a definition, where it is there; that of a router with its destinations."""

    @abstractmethod
    async def _read(self, revision: str) -> tuple[str, Iterable[tuple[Key, bytes]]] | None:
        """Read all definitions with their revision; None where that is the given one."""

    async def fetch(self) -> Definitions:
        """Return all definitions, in the same object while nothing has changed.

        One that can't be read is left out, and logged.
        """
        await self._lock.acquire()
        try:
            found = await self._read(self._revision)
            if found is not None:
                self._revision, texts = found
                self._definitions = MappingProxyType(dict(self._read_texts(texts)))
            return self._definitions
        finally:
            self._lock.release()

    def _read_texts(self, texts: Iterable[tuple[Key, bytes]]) -> Iterable[tuple[Key, Definition]]:
        for key, text in texts:
            known = self._definitions.get(key)
            if known is not None and known.text == text:
                yield key, known
                continue
            try:
                properties = strictjson.loads_stored(text)
                if not isinstance(properties, dict):
                    raise ValueError("it is no JSON object")
            except ValueError as error:
                self.log.warn(
                    "the definition of {name} in the store of {kind} is left out: {error}",
                    name=key.id,
                    kind=key.kind,
                    error=error,
                )
            else:
                yield key, Definition(text, properties)
