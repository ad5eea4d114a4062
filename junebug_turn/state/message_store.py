"""Interface of the message stores: the state of conversations between a message and its reply or its events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypedDict

from attrs import evolve, field, frozen

from junebug_turn.config.types import DAY
from junebug_turn.delivery.shared_quota import QuotaStore
from junebug_turn.errors import ConfigError
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.channel_records import ChannelRecords, MemoryRecords
from junebug_turn.state.claims import Claims
from junebug_turn.state.connector_settings import ConnectorSettings
from junebug_turn.state.journal import JournalEntries
from junebug_turn.telemetry.gauges import StoreStats


@frozen
class OutboundRecord:
    """The part of an outbound message that its events need.

    :ivar details: the whole message as Junebug's API shows it, as JSON; only stored, by a store that ``keeps_details``
    :ivar note: an application's own note about the message, for its events: a JSON value, opaque to the store
    :ivar traceparent: the trace of the message: see ``telemetry.tracing``
    :ivar from_addr: only read, and only by a store that has the entries of Junebug, where the details have it
    """

    message_id: str
    to_addr: str | None = field(repr=False)
    event_url: str | None = field(default=None, repr=False)
    event_auth_token: str | None = field(default=None, repr=False)
    details: Mapping[str, Any] | None = field(default=None, repr=False)
    note: Any = field(default=None, repr=False)
    from_addr: str | None = field(default=None, repr=False)
    traceparent: str | None = field(default=None, repr=False)


class StoreOptions(TypedDict, total=False):
    """Keyword arguments that every store takes, as ``MessageStore`` explains them."""

    timeout: float
    store_event_info: bool
    remember_last: bool


class MessageStore(ABC):
    """Base of the stores of inbound messages (for replies) and outbound ones (for events), for a limited time.

    A message that is stored again, since the broker delivered it again, is as if it were stored for the first
    time, with one exception: it does not become the last one of its address.

    Every ``async`` method but ``start`` and ``stop`` raises ``CacheError`` where the store can't write or read now,
    within ``cache_timeout``.  ``fetch_outbound`` and ``fetch_events`` raise ``UnreadableEntry`` where the entry has a
    foreign value; the other methods log that, and return None.

    :param timeout: seconds for which an entry is kept
    :param store_event_info: whether event URLs and tokens are stored
    :param remember_last: whether the last inbound message of an address can be fetched

    :cvar keeps_details: whether whole messages are stored, for Junebug to read: ``OutboundRecord.details``, and inbound
        messages with their content.  Another store is given neither, which no reply and no event needs.
    """

    keeps_details: ClassVar[bool] = False

    def __init__(
        self, *, timeout: float = DAY, store_event_info: bool = True, remember_last: bool = False
    ) -> None:
        self._timeout = timeout
        self._store_event_info = store_event_info
        self._remember_last = remember_last
        # By connector: siblings share them.
        self._records: dict[str, Any] = {}
        self._claims: dict[str, Any] = {}

    @classmethod
    @abstractmethod
    def from_config(
        cls, config: Mapping[str, Any], *, option: str, connector: str, clock: Any, remember_last: bool
    ) -> Self:
        """Make the store that an application's options describe.

        :param option: ``state_cache`` or ``message_cache``: the prefix of the options' names, for errors and warnings
        :param connector: the application's connector; applications share no entry
        :param clock: the daemon's reactor; a store that needs no more than the time takes a clock
        :param remember_last: whether the application asks for the last inbound message of an address
        :raises ConfigError: a line for each option that is unknown or of a wrong type
        """

    def sibling(self, connector: str) -> Self:
        """Return the store of another connector with the same options, which shares all connections and threads.

        It is ready as long as this one is, and is neither started nor stopped.

        :raises ConfigError: each connector needs a store of its own
        """
        raise ConfigError(f"{type(self).__name__} can't be shared by channels")

    def channel_records(self, window: float) -> ChannelRecords:
        """Return the records of the connector's channel, which are kept where the messages are, if they can be.

        They are ready as long as the store is, and the same object each time.

        :param window: seconds of a counter of messages
        """
        records: ChannelRecords = self._records.setdefault("", MemoryRecords(window))
        return records

    def connector_settings(self) -> ConnectorSettings:
        """Return the connector's settings, which are kept where the messages are, if they can be.

        They are ready as long as the store is.
        """
        return ConnectorSettings()

    def journal_entries(self) -> JournalEntries:
        """Return the steps of the connector's messages, which live as long as outbound messages; this base has none."""
        return JournalEntries()

    async def _stop_claims(self) -> None:
        for claims in list(self._claims.values()):
            await claims.stop()

    def claims(self) -> Claims | None:
        """Return the claims of the connector's requests; None where no other process and no later one has the entries.

        They are ready as long as the store is.
        """
        return None

    def quotas(self) -> QuotaStore | None:
        """Return the counts of calls which the processes that share the store have together; None: it is not shared."""
        return None

    @abstractmethod
    async def start(self) -> None:
        """Get ready; the methods that store and fetch are called after this."""

    def stats(self) -> StoreStats:
        """Return the statistics for the metrics, at any time."""
        return StoreStats()

    def status(self) -> Mapping[str, Any]:
        """Return the state for ``/health``: ``ok``, and the fault where it is not.  No secrets."""
        return {"ok": True}

    @abstractmethod
    async def stop(self) -> None:
        """Release everything that the other methods took."""

    @abstractmethod
    async def store_inbound(self, message: Message) -> None:
        """Store an inbound message, by its id and as the last one of its ``from_addr``."""

    @abstractmethod
    async def fetch_inbound(self, message_id: str) -> Message | None:
        """Return the inbound message with this id, if it is still known."""

    @abstractmethod
    async def fetch_last_inbound(self, from_addr: str) -> Message | None:
        """Return the inbound message of this address that arrived last, if it is still known.

        Always None without ``remember_last``: the index takes memory.
        """

    @abstractmethod
    async def store_outbound(self, record: OutboundRecord) -> None:
        """Store the record of an outbound message; on return it is on the disk, where the store has one."""

    @abstractmethod
    async def fetch_outbound(self, message_id: str) -> OutboundRecord | None:
        """Return the record of the outbound message with this id, if it is still known."""

    @abstractmethod
    async def store_event(self, event: Event) -> None:
        """Store an event of an outbound message, known or not; it replaces an event with the same id."""

    @abstractmethod
    async def fetch_events(self, message_id: str) -> list[Event]:
        """Return the events of the outbound message with this id that are still known, in no certain order."""

    @abstractmethod
    async def store_note(self, address: str, value: Any) -> None:
        """Store an application's note about an address; it replaces the former one, and None removes it.

        :param value: a JSON value, opaque to the store
        """

    @abstractmethod
    async def fetch_note(self, address: str) -> Any:
        """Return the note about an address, if it is still known."""

    def _stored(self, record: OutboundRecord) -> OutboundRecord:
        """Return the record without event URL and token, unless they are stored."""
        return record if self._store_event_info else evolve(record, event_url=None, event_auth_token=None)
