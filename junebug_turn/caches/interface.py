"""What an application remembers between the two halves of a conversation, whatever it is kept in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from junebug_turn.menus import Menu
from junebug_turn.messages import Message


@frozen
class Outbound:
    """What the events of an outbound message need to know of it."""

    to_addr: str | None
    event_url: str | None = field(repr=False)
    event_auth_token: str | None = field(repr=False)


class Cache(ABC):
    """Inbound messages, for the replies to them, and outbound ones, for their events; each for a limited time.

    A message that is stored again, since the broker delivered it again, is as if it were stored for the first
    time, but for one thing: it is not thereby the last one of its address.
    """

    @classmethod
    @abstractmethod
    def from_config(
        cls, config: Mapping[str, Any], *, option: str, connector: str, clock: IReactorTime
    ) -> Self:
        """The cache that an application's options describe.

        :param option: ``state_cache`` or ``message_cache``: what the option's name begins with
        :param connector: the application's connector; applications share no entry
        :raises ConfigError: a line for each option that is unknown or of a wrong type
        """

    @abstractmethod
    async def start(self) -> None:
        """Get ready; the other methods are called after this."""

    def stats(self) -> Mapping[str, tuple[int, int]]:
        """For metrics: part -> its entries, and how many had to go before their time; empty where it can't tell."""
        return {}

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
        self, message: Message, event_url: str | None, event_auth_token: str | None
    ) -> None:
        """Remember where the events of an outbound message go."""

    @abstractmethod
    async def fetch_outbound(self, message_id: str) -> Outbound | None:
        """What is remembered of the outbound message with this id, if it is still known."""

    @abstractmethod
    async def store_menu(self, address: str, menu: Menu | None) -> None:
        """Remember the menu that an address was sent last; None forgets it."""

    @abstractmethod
    async def fetch_menu(self, address: str) -> Menu | None:
        """The menu that this address was sent last, if it is still known."""
