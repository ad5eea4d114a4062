"""Message store in a SQLite file: it survives the process and needs no other one; for one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, Self, Unpack

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from junebug_turn.config.resolver import read_mapping
from junebug_turn.errors import CacheError, UnreadableEntry
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.net.clocks import WALL_CLOCK, WallClock
from junebug_turn.state import packing
from junebug_turn.state.failures import FailureMonitor
from junebug_turn.state.message_store import MessageStore, OutboundRecord, StoreOptions
from junebug_turn.state.options import CACHE_TIMEOUT
from junebug_turn.state.sqlite.claims import SqliteClaims
from junebug_turn.state.sqlite.entries import (
    DAMAGED,
    EVENTS,
    INBOUND,
    LAST,
    NOTE,
    OUTBOUND,
    Entries,
    count_entries,
    pack_key,
    unpack_key,
)
from junebug_turn.state.sqlite.file import MAX_BYTES, SqliteFile, Write, check_file
from junebug_turn.state.sqlite.journal import SqliteSteps
from junebug_turn.state.sqlite.options import SqliteConfig
from junebug_turn.state.sqlite.quotas import SqliteQuotas
from junebug_turn.state.sqlite.records import SqliteRecords
from junebug_turn.state.sqlite.settings import SqliteSettings
from junebug_turn.state.sqlite.sweep import Sweep
from junebug_turn.telemetry.gauges import PartStats, StoreStats

SWEEP_INTERVAL = 1.0
"""Seconds between two deletions of expired entries."""

COUNT_INTERVAL = 60.0
"""Seconds between two counts of the entries, for the metrics."""


class SqliteStore(MessageStore):
    """A message store in a SQLite file.

    An entry is on the disk when the method that stores it returns.

    :param reactor: runs the threads that use the file
    :param connector: the owner of the entries: several connectors can share a file
    :param path: the file; it and its folder are made where they are missing
    :param cache_timeout: seconds that an operation may take
    :param max_bytes: bound of the file's size, with the entries of all connectors
    :param wall_clock: tells when an entry expires, since it survives the process
    :param options: those of ``MessageStore``
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        connector: str,
        path: str,
        cache_timeout: float = CACHE_TIMEOUT,
        max_bytes: int = MAX_BYTES,
        wall_clock: WallClock = WALL_CLOCK,
        **options: Unpack[StoreOptions],
    ) -> None:
        super().__init__(**options)
        self._reactor = reactor
        self._connector = connector
        self._wall_clock = wall_clock
        self._path = Path(path)
        self._cache_timeout = cache_timeout
        self._max_bytes = max_bytes
        self._sweep_of_file = Sweep(self._path, max_bytes)
        self._monitor = FailureMonitor(reactor, f"SQLite at {path}", cache_timeout, (sqlite3.Error, OSError))
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = reactor
        self._parts = {INBOUND: PartStats(), OUTBOUND: PartStats(), NOTE: PartStats()}
        self._counting = LoopingCall(self._count)
        self._counting.clock = reactor
        self._counted: Deferred[None]
        self._file: SqliteFile

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, option: str, connector: str, clock: Any, remember_last: bool
    ) -> Self:
        options = attrs.asdict(read_mapping(SqliteConfig, config, f"{option}_config."), recurse=False)
        check_file(Path(options["path"]), f"{option}_config.path")
        return cls(clock, connector=connector, remember_last=remember_last, **options)

    def sibling(self, connector: str) -> Self:
        other = copy(self)
        other._connector = connector
        return other

    async def start(self) -> None:
        self._file = SqliteFile(self._reactor, self._path, self._cache_timeout, self._max_bytes)
        self._sweeping.start(SWEEP_INTERVAL)
        self._counting.start(COUNT_INTERVAL)

    def channel_records(self, window: float) -> SqliteRecords:
        if self._connector not in self._records:
            self._records[self._connector] = SqliteRecords(self._connector, self._read, self._write, window)
        records: SqliteRecords = self._records[self._connector]
        return records

    def journal_entries(self) -> SqliteSteps:
        return SqliteSteps(self._entries, self._read, self._write)

    def quotas(self) -> SqliteQuotas:
        return SqliteQuotas(self._write, self._wall_clock.now)

    def claims(self) -> SqliteClaims:
        made = self._claims[self._connector] = SqliteClaims(self._connector, self._write, self._wall_clock)
        return made

    def connector_settings(self) -> SqliteSettings:
        return SqliteSettings(self._connector, self._read, self._write)

    async def stop(self) -> None:
        await self._stop_claims()
        if self._counting.running:
            self._counting.stop()
            await self._counted
        if self._sweeping.running:
            self._sweeping.stop()
            await self._file.stop()

    def stats(self) -> StoreStats:
        # The label of the notes is from the time when only Turn's menus were noted.
        names = {INBOUND: "inbound", OUTBOUND: "outbound", NOTE: "menus"}
        parts = {names[kind]: part for kind, part in self._parts.items()} | {
            "file": self._sweep_of_file.stats
        }
        return StoreStats(parts, self._monitor.failures)

    def status(self) -> Mapping[str, Any]:
        fault = self._monitor.fault
        return {"ok": fault is None, "fault": fault, "failures": self._monitor.failures}

    async def store_inbound(self, message: Message) -> None:
        if not self._remember_last:
            await self._put(INBOUND, message.message_id, packing.pack_message(message))
            return
        entries, key, packed = self._entries(), pack_key(message.message_id), packing.pack_message(message)

        def write(cursor: Any) -> None:
            before = entries.get(cursor, INBOUND, key)
            entries.put(cursor, INBOUND, key, packed)
            entries.update_last(cursor, key, before, message.from_addr)

        await self._write(write)

    async def fetch_inbound(self, message_id: str) -> Message | None:
        packed = await self._get(INBOUND, message_id)
        return None if packed is None else self._message(message_id, packed)

    def _message(self, message_id: str, packed: bytes) -> Message | None:
        try:
            return packing.unpack_message(message_id, packed)
        except DAMAGED as error:
            self.log.warn("an inbound message in the cache counts as unknown: {error!s}", error=error)
            return None

    async def fetch_last_inbound(self, from_addr: str) -> Message | None:
        if not self._remember_last:
            return None
        entries = self._entries()

        def read(cursor: Any) -> tuple[bytes, bytes] | None:
            key = entries.get(cursor, LAST, pack_key(from_addr))
            packed = None if key is None else entries.get(cursor, INBOUND, key)
            return None if key is None or packed is None else (key, packed)

        found = self._parts[INBOUND].asked(await self._read(read))
        if found is None:
            return None
        message = self._message(unpack_key(found[0]), found[1])
        # The message may have expired, and then have come again from another address.
        return message if message is not None and message.from_addr == from_addr else None

    async def store_outbound(self, record: OutboundRecord) -> None:
        await self._put(OUTBOUND, record.message_id, packing.pack_outbound(self._stored(record)))

    async def fetch_outbound(self, message_id: str) -> OutboundRecord | None:
        packed = await self._get(OUTBOUND, message_id)
        return None if packed is None else _read(packing.unpack_outbound, message_id, packed)

    async def store_event(self, event: Event) -> None:
        entries, key = self._entries(), pack_key(event.user_message_id)

        def write(cursor: Any) -> None:
            before = entries.get(cursor, EVENTS, key)
            try:
                packed = packing.add_event(before, event)
            except DAMAGED:
                # Events that can't be read are given up: the other writes of the commit must not fail for them.
                packed = packing.add_event(None, event)
            entries.put(cursor, EVENTS, key, packed)

        await self._write(write)

    async def fetch_events(self, message_id: str) -> list[Event]:
        packed = await self._get(EVENTS, message_id)
        return [] if packed is None else _read(packing.unpack_events, message_id, packed)

    async def store_note(self, address: str, value: Any) -> None:
        if value is not None:
            await self._put(NOTE, address, strictjson.dumps(value))
            return
        entries = self._entries()
        await self._write(lambda cursor: entries.remove(cursor, NOTE, pack_key(address)))

    async def fetch_note(self, address: str) -> Any:
        packed = await self._get(NOTE, address)
        try:
            return None if packed is None else strictjson.loads_stored(packed)
        except DAMAGED as error:
            self.log.warn("a note in the cache counts as unknown: {error!s}", error=error)
            return None

    def _entries(self) -> Entries:
        return Entries(self._connector, self._expired(), self._wall_clock.now() + self._timeout)

    def _expired(self) -> float:
        return self._wall_clock.expired(self._timeout)

    async def _get(self, kind: str, name: str) -> bytes | None:
        entries, key = self._entries(), pack_key(name)
        found = await self._read(lambda cursor: entries.get(cursor, kind, key))
        part = self._parts.get(kind)
        return found if part is None else part.asked(found)

    async def _put(self, kind: str, name: str, value: bytes) -> None:
        expires = self._wall_clock.now() + self._timeout
        await self._write((self._connector, kind, pack_key(name), value, expires))

    async def _read(self, read: Callable[[Any], Any]) -> Any:
        return await self._monitor.result(self._file.read(read))

    async def _write(self, write: Write) -> None:
        await self._monitor.result(self._file.write(write))

    def _sweep(self) -> Deferred[None]:
        expired, sweep = self._expired(), self._sweep_of_file

        async def run() -> None:
            await self._monitor.result(self._file.make_room(lambda cursor: sweep.delete(cursor, expired)))
            sweep.warn()

        return _quietly(run())

    def _count(self) -> Deferred[None]:
        now = self._expired()

        async def count() -> None:
            counts = await self._monitor.result(
                self._file.read(lambda cursor: count_entries(cursor, self._connector, now, list(self._parts)))
            )
            for part, entries in zip(self._parts.values(), counts, strict=True):
                part.entries = entries

        self._counted = _quietly(count())
        return self._counted


def _quietly(work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
    """Run periodic work, whose failure the next run may mend; the monitor has logged it."""

    async def run() -> None:
        with suppress(CacheError):
            await work

    return Deferred.fromCoroutine(run())


def _read(unpack: Any, *args: Any) -> Any:
    try:
        return unpack(*args)
    except DAMAGED:
        raise UnreadableEntry("an entry of the cache can't be read") from None
