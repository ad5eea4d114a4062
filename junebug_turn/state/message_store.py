"""What an application remembers between the two halves of a conversation, whatever it is kept in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.gauges import StoreStats


@frozen
class OutboundRecord:
    """The part of an outbound message that its events need.

    :ivar details: the whole message as Junebug's API shows it, as JSON; only stored, by a store that ``keeps_details``
    """

    message_id: str
    to_addr: str | None
    event_url: str | None = field(default=None, repr=False)
    event_auth_token: str | None = field(default=None, repr=False)
    details: Mapping[str, Any] | None = field(default=None, repr=False)

    def without_event_info(self) -> Self:
        """Return the record without event URL and token."""
        return evolve(self, event_url=None, event_auth_token=None)


class MessageStore(ABC):
    """Inbound messages, for the replies to them, and outbound ones, for their events; each for a limited time.

    A message that is stored again, since the broker delivered it again, is as if it were stored for the first
    time, but for one thing: it is not thereby the last one of its address.

    Every method but ``start``, ``stop`` and ``status`` raises ``CacheError`` where the cache can't store or read
    now, within ``cache_timeout``.  ``fetch_outbound`` and ``fetch_events`` raise ``UnreadableEntry`` where something
    foreign is in its place; for the other ones that is unknown, and logged.

    :cvar keeps_details: whether ``OutboundRecord.details`` are stored; building them for another store is a waste
    """

    keeps_details: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        option: str,
        connector: str,
        clock: IReactorTime,
        remember_last: bool = False,
    ) -> Self:
        """Make the store that an application's options describe.

        :param option: ``state_cache`` or ``message_cache``: the prefix of the options' names, for errors and warnings
        :param connector: the application's connector; applications share no entry
        :param clock: the daemon's reactor; a store that needs no more than the time takes a clock
        :param remember_last: whether the application asks for the last inbound message of an address
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
        """Return the inbound message of this address that arrived last, if it is still known.

        Always None without ``remember_last``: the index takes memory.
        """

    @abstractmethod
    async def store_outbound(self, record: OutboundRecord) -> None:
        """Store what the events of an outbound message need; on return it is on the disk where the store has one."""

    @abstractmethod
    async def fetch_outbound(self, message_id: str) -> OutboundRecord | None:
        """Return the record of the outbound message with this id, if it is still known."""

    @abstractmethod
    async def store_event(self, event: Event) -> None:
        """Remember an event of an outbound message, known or not; one with an id that is known takes its place."""

    @abstractmethod
    async def fetch_events(self, message_id: str) -> list[Event]:
        """The events of the outbound message with this id that are still known, in no certain order."""

    @abstractmethod
    async def store_note(self, address: str, value: Any) -> None:
        """Store what the application notes of an address, for as long as an outbound message; None forgets it.

        :param value: a JSON value, opaque to the store
        """

    @abstractmethod
    async def fetch_note(self, address: str) -> Any:
        """Return the note of an address; None where none is known."""
