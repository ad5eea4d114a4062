"""What an application remembers between the two halves of a conversation, whatever it is kept in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from junebug_turn.menus import Menu
from junebug_turn.messages.vumi import Event, Message

Details = Callable[[], Mapping[str, Any]]
"""Makes the JSON of an outbound message as Junebug kept it; called only by a cache that keeps it."""


_T = TypeVar("_T")


@define
class PartStats:
    """What is counted of a part of a cache, such as its inbound messages; None: nobody can tell.

    :ivar entries: how many there are, about
    :ivar hits: how many were asked for and found
    :ivar misses: how many were asked for in vain
    :ivar evictions: how many had to go before their time
    """

    entries: int | None = None
    hits: int = 0
    misses: int = 0
    evictions: int | None = None

    def asked(self, found: _T | None) -> _T | None:
        """Count what somebody asked for; returns it."""
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found


@frozen
class StoreStats:
    """What is counted of a cache.

    :ivar parts: name -> what is counted of that part
    :ivar failures: how many operations failed; None where none can
    """

    parts: Mapping[str, PartStats] = field(factory=dict)
    failures: int | None = None


@frozen
class Outbound:
    """What the events of an outbound message need to know of it."""

    to_addr: str | None
    event_url: str | None = field(repr=False)
    event_auth_token: str | None = field(repr=False)

    @classmethod
    def of(
        cls, message: Message, event_url: str | None, event_auth_token: str | None, *, with_event_info: bool
    ) -> Self:
        """What is kept of ``message``; its event URL and token only where they may be."""
        event_info = (event_url, event_auth_token) if with_event_info else (None, None)
        return cls(message.to_addr, *event_info)


class MessageStore(ABC):
    """Inbound messages, for the replies to them, and outbound ones, for their events; each for a limited time.

    A message that is stored again, since the broker delivered it again, is as if it were stored for the first
    time, but for one thing: it is not thereby the last one of its address.

    Every method but ``start``, ``stop`` and ``status`` raises ``CacheError`` where the cache can't store or read
    now, within ``cache_timeout``.  ``fetch_outbound`` and ``fetch_events`` raise ``UnreadableEntry`` where something
    foreign is in its place; for the other ones that is unknown, and logged.
    """

    @classmethod
    @abstractmethod
    def from_config(
        cls, config: Mapping[str, Any], *, option: str, connector: str, clock: IReactorTime
    ) -> Self:
        """The cache that an application's options describe.

        :param option: ``state_cache`` or ``message_cache``: what the option's name begins with
        :param connector: the application's connector; applications share no entry
        :param clock: the daemon's reactor; a cache that needs no more than the time takes a clock
        :raises ConfigError: a line for each option that is unknown or of a wrong type
        """

    @abstractmethod
    async def start(self) -> None:
        """Get ready; the other methods are called after this."""

    def stats(self) -> StoreStats:
        """For metrics, at any time."""
        return StoreStats()

    def status(self) -> Mapping[str, Any]:
        """For ``/health``: ``ok``, and where it isn't, what is wrong.  No secrets."""
        return {"ok": True}

    @abstractmethod
    async def stop(self) -> None:
        """Let go of all that ``start`` and the others took."""

    @abstractmethod
    async def store_inbound(self, message: Message) -> None:
        """Remember an inbound message, by its id and as the last one of its ``from_addr``."""

    @abstractmethod
    async def fetch_inbound(self, message_id: str) -> Message | None:
        """The inbound message with this id, if it is still known."""

    @abstractmethod
    async def fetch_last_inbound(self, from_addr: str) -> Message | None:
        """Of the inbound messages from this address the one that arrived last, if it is still known.

        Always None from a ``state_cache``: no API of that one asks, and the index takes memory.
        """

    @abstractmethod
    async def store_outbound(
        self,
        message: Message,
        event_url: str | None,
        event_auth_token: str | None,
        details: Details | None = None,
    ) -> None:
        """Remember where the events of an outbound message go; it outlives a crash where the cache can."""

    @abstractmethod
    async def fetch_outbound(self, message_id: str) -> Outbound | None:
        """What is remembered of the outbound message with this id, if it is still known."""

    @abstractmethod
    async def store_event(self, event: Event) -> None:
        """Remember an event of an outbound message, known or not; one with an id that is known takes its place."""

    @abstractmethod
    async def fetch_events(self, message_id: str) -> list[Event]:
        """The events of the outbound message with this id that are still known, in no certain order."""

    @abstractmethod
    async def store_menu(self, address: str, menu: Menu | None) -> None:
        """Remember the menu that an address was sent last; None forgets it."""

    @abstractmethod
    async def fetch_menu(self, address: str) -> Menu | None:
        """The menu that this address was sent last, if it is still known."""
