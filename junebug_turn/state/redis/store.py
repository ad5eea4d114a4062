"""Message store in a Redis: it survives the process, and several processes share it.

The keys of inbound and outbound messages are those of Junebug, the daemon of praekelt.org, in its stores of messages
(``junebug/stores.py``), so that each reads the entries of the other:

- ``<connector>:inbound_messages:<message_id>``: a hash; its field ``message`` is the JSON of vumi
- ``<connector>:outbound_messages:<message_id>``: a hash; its field ``message`` is the JSON of the request with that of
  the answer's ``result`` over it, each other field an event's id, with the event in vumi's JSON

docs/caches.md has all keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from copy import copy
from typing import Any, Self, Unpack

import attrs
from twisted.logger import Logger
from txredisapi import RedisError

from junebug_turn.config.resolver import read_mapping
from junebug_turn.errors import CacheError, UnreadableEntry, UnreadableMessage
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.failures import FailureMonitor
from junebug_turn.state.message_store import MessageStore, OutboundRecord, StoreOptions
from junebug_turn.state.options import CACHE_TIMEOUT
from junebug_turn.state.packing import MAX_EVENTS
from junebug_turn.state.redis import scripts
from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.claims import RedisClaims
from junebug_turn.state.redis.errors import remedy
from junebug_turn.state.redis.journal import RedisSteps
from junebug_turn.state.redis.options import RedisConfig
from junebug_turn.state.redis.pool import RedisPool
from junebug_turn.state.redis.quotas import RedisQuotas
from junebug_turn.state.redis.records import RedisRecords
from junebug_turn.state.redis.settings import RedisSettings
from junebug_turn.state.redis.values import marked, milliseconds, read_json, to_bytes
from junebug_turn.telemetry.gauges import PartStats, StoreStats

_MESSAGE = "message"


class RedisStore(MessageStore):
    """A message store in a Redis.

    :param reactor: makes the connections
    :param connector: the beginning of the keys, after ``key_prefix`` and a colon where there is one
    :param inbound_ttl: seconds for which an inbound message is kept since it was stored or read last; by default
        ``timeout``
    :param outbound_ttl: the same for outbound messages with their events; notes live as long, since they were stored
    :param cache_timeout: seconds that an operation may take
    :param trust_root: the authorities for the server's certificate, as ``CertificateOptions`` takes them
    :param options: those of ``MessageStore``
    """

    log = Logger()
    keeps_details = True

    def __init__(
        self,
        reactor: Any,
        *,
        url: RedisAddress,
        connector: str,
        key_prefix: str = "",
        inbound_ttl: float | None = None,
        outbound_ttl: float | None = None,
        cache_timeout: float = CACHE_TIMEOUT,
        trust_root: Any = None,
        **options: Unpack[StoreOptions],
    ) -> None:
        super().__init__(**options)
        self._prefix = f"{key_prefix}:" if key_prefix else ""
        self._name_keys(connector)
        self._inbound_ttl = milliseconds(inbound_ttl or self._timeout)
        self._outbound_ttl = milliseconds(outbound_ttl or self._timeout)
        self._parts = {part: PartStats() for part in ("inbound", "outbound", "menus")}
        self._reactor = reactor
        self._pool = RedisPool(reactor, url, cache_timeout, trust_root)
        self._monitor = FailureMonitor(reactor, url.name, cache_timeout, (RedisError,), remedy)

    def _name_keys(self, connector: str) -> None:
        start = self._channel = f"{self._prefix}{connector}"
        self._inbound = f"{start}:inbound_messages:"
        self._outbound = f"{start}:outbound_messages:"
        self._last = f"{start}:last_inbound:"
        # The keys and the statistics of notes are from the time when only Turn's menus were noted.
        self._note = f"{start}:menus:"

    def sibling(self, connector: str) -> Self:
        other = copy(self)
        other._name_keys(connector)
        return other

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, option: str, connector: str, clock: Any, remember_last: bool
    ) -> Self:
        options = attrs.asdict(read_mapping(RedisConfig, config, f"{option}_config."), recurse=False)
        return cls(clock, connector=connector, remember_last=remember_last, **options)

    async def start(self) -> None:
        # Without waiting for a connection: the daemon runs without its Redis later, so it starts without it, too.
        self._pool.start()

    async def stop(self) -> None:
        await self._stop_claims()
        for records in self._records.values():
            records.stop()
        await self._pool.stop()

    def channel_records(self, window: float) -> RedisRecords:
        if self._channel not in self._records:
            self._records[self._channel] = RedisRecords(self._reactor, self._eval, self._channel, window)
        records: RedisRecords = self._records[self._channel]
        return records

    def journal_entries(self) -> RedisSteps:
        return RedisSteps(self._eval, self._execute, f"{self._channel}:steps:", self._outbound_ttl)

    def quotas(self) -> RedisQuotas:
        return RedisQuotas(self._eval, self._prefix)

    def claims(self) -> RedisClaims:
        made = self._claims[self._channel] = RedisClaims(self._execute, self._eval, self._channel)
        return made

    def connector_settings(self) -> RedisSettings:
        return RedisSettings(self._execute, self._channel)

    def stats(self) -> StoreStats:
        # Without the numbers of entries: counting them would take a walk through all of the server's keys.
        return StoreStats(self._parts, self._monitor.failures)

    def status(self) -> Mapping[str, Any]:
        fault = self._pool.fault(self._monitor.fault)
        return {
            "ok": fault is None,
            "fault": fault,
            "failures": self._monitor.failures,
            "connected": bool(self._pool.pool),
        }

    async def store_inbound(self, message: Message) -> None:
        key, packed = self._inbound + message.message_id, message.to_json()
        if self._remember_last:
            await self._eval(
                scripts.STORE_INBOUND,
                key,
                packed,
                self._inbound_ttl,
                message.message_id,
                marked(message.from_addr),
                self._last,
            )
        else:
            await self._eval(scripts.STORE_FIELD, key, _MESSAGE, packed, self._inbound_ttl)

    async def fetch_inbound(self, message_id: str) -> Message | None:
        key = self._inbound + message_id
        if self._remember_last:
            return await self._fetch_message(
                scripts.FETCH_INBOUND, key, self._inbound_ttl, message_id, self._last
            )
        return await self._fetch_message(scripts.FETCH_FIELD, key, _MESSAGE, self._inbound_ttl)

    async def fetch_last_inbound(self, from_addr: str) -> Message | None:
        if not self._remember_last:
            return None
        return await self._fetch_message(
            scripts.FETCH_LAST_INBOUND,
            self._last + from_addr,
            self._inbound_ttl,
            self._inbound,
            marked(from_addr),
            self._last,
        )

    async def _fetch_message(self, script: str, key: str, *args: str | int) -> Message | None:
        try:
            packed = self._parts["inbound"].asked(await self._read(self._eval(script, key, *args)))
            return None if packed is None else Message.from_json(packed, strictjson.loads_stored)
        except (UnreadableEntry, UnreadableMessage) as error:
            self.log.warn("an inbound message in the cache counts as unknown: {error!s}", error=error)
            return None

    async def store_outbound(self, record: OutboundRecord) -> None:
        record = self._stored(record)
        details = record.details
        kept = {
            **({"message_id": record.message_id, "to": record.to_addr} if details is None else details),
            "event_url": record.event_url,
            "event_auth_token": record.event_auth_token,
            **({} if record.note is None else {"note": record.note}),
            **({} if record.traceparent is None else {"traceparent": record.traceparent}),
        }
        await self._eval(
            scripts.STORE_FIELD,
            self._outbound + record.message_id,
            _MESSAGE,
            strictjson.dumps(kept),
            self._outbound_ttl,
        )

    async def fetch_outbound(self, message_id: str) -> OutboundRecord | None:
        key = self._outbound + message_id
        command = self._eval(scripts.FETCH_FIELD, key, _MESSAGE, self._outbound_ttl)
        packed = self._parts["outbound"].asked(await self._read(command))
        # The key alone does not make the message known: an event of an unknown message makes the key, too.
        if packed is None:
            return None
        kept = read_json(packed)
        if not isinstance(kept, dict):
            raise UnreadableEntry("an outbound message in the cache is no JSON object")
        names = {"to_addr": "to", "from_addr": "from"}
        names |= {name: name for name in ("event_url", "event_auth_token", "traceparent")}
        texts = {name: kept.get(key) for name, key in names.items()}
        known: Any = {name: text if isinstance(text, str) else None for name, text in texts.items()}
        return OutboundRecord(message_id, note=kept.get("note"), **known)

    async def store_event(self, event: Event) -> None:
        # An event with this id would replace the message itself.
        field = event.event_id if event.event_id != _MESSAGE else f"event:{_MESSAGE}"
        await self._eval(
            scripts.STORE_EVENT,
            self._outbound + event.user_message_id,
            field,
            event.to_json(),
            self._outbound_ttl,
            MAX_EVENTS,
        )

    async def fetch_events(self, message_id: str) -> list[Event]:
        key = self._outbound + message_id
        fields = await self._read(self._eval(scripts.FETCH_FIELDS, key, self._outbound_ttl))
        events = []
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            if name == _MESSAGE.encode():
                continue
            try:
                events.append(Event.from_json(value, strictjson.loads_stored))
            except UnreadableMessage as error:
                self.log.warn(
                    "an event of message {message_id} in the cache is left out: {error!s}",
                    message_id=message_id,
                    error=error,
                )
        return events

    async def store_note(self, address: str, value: Any) -> None:
        key = to_bytes(self._note + address)
        if value is None:
            await self._execute("DEL", key)
        else:
            await self._execute("SET", key, strictjson.dumps(value), "PX", self._outbound_ttl)

    async def fetch_note(self, address: str) -> Any:
        try:
            command = self._execute("GET", to_bytes(self._note + address))
            packed = self._parts["menus"].asked(await self._read(command))
            return None if packed is None else read_json(packed)
        except UnreadableEntry as error:
            self.log.warn("a note in the cache counts as unknown: {error!s}", error=error)
            return None

    async def _eval(self, script: str, key: str, *args: str | bytes | int) -> Any:
        """Run a script on the server, which keeps it, and return its result."""
        values = [to_bytes(arg) if isinstance(arg, str) else arg for arg in args]
        return await self._monitor.run(self._pool.run("eval", script, [to_bytes(key)], values))

    async def _execute(self, *command: str | bytes | int) -> Any:
        return await self._monitor.run(self._pool.run("execute_command", *command))

    async def _read(self, command: Awaitable[Any]) -> Any:
        """Return the result of ``command``.

        :raises UnreadableEntry: the key has a value of a wrong type, which no later attempt would read
        :raises CacheError: the server can't be read now
        """
        try:
            return await command
        except CacheError as error:
            if "WRONGTYPE" in str(error.__cause__):
                raise UnreadableEntry("a key of the cache has a value of a wrong type") from error
            raise
