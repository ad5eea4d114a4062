"""The service of channels: it follows the store, and changes it.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogPublisher

from junebug_turn.connectors.trace import Source
from junebug_turn.daemon.channels.runner import ChannelRunner
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.errors import (
    CacheError,
    ChangedMeanwhile,
    QueuesRefused,
)
from junebug_turn.state.channel_store import CHANNELS, ChannelStore, Definition, Definitions, Key
from junebug_turn.state.connector_settings import ConnectorSettings
from junebug_turn.state.message_store import MessageStore

POLL_INTERVAL = 2.0
"""Seconds between two looks at the store, for what other daemons have changed."""

_ATTEMPTS = 5


class ChannelsService:
    """Follower of the store of channels.

    :param messages: the store of the channels' messages, which has siblings for them
    :ivar loaded: whether the store could be read since the start
    """

    log = Logger()

    def __init__(
        self, reactor: Any, store: ChannelStore, messages: MessageStore, runner: ChannelRunner
    ) -> None:
        self._store = store
        self._messages = messages
        self._runner = runner
        self._definitions: Definitions = {}
        self._polling = LoopingCall(lambda: Deferred.fromCoroutine(self._poll()))
        self._polling.clock = reactor
        self.loaded = False

    @property
    def definitions(self) -> Definitions:
        """The definitions as they were read last."""
        return self._definitions

    def sources(self) -> Iterator[Source]:
        """Yield the channels as sources of a message's trace."""
        for key, definition in self._definitions.items():
            if key.kind == CHANNELS:
                url = definition.properties.get("mo_url")
                urls = (url,) if isinstance(url, str) else ()
                yield Source(connector=key.id, store=self._messages.sibling(key.id), urls=urls)

    async def start(self) -> None:
        """Open the stores, and run the channels, where the store can be read now; else they run as soon as it can."""
        globalLogPublisher.addObserver(self._runner.logs)
        await self._messages.start()
        await self._store.start()
        await self._poll()
        self._polling.start(POLL_INTERVAL, now=False)

    def renew(self, settings: ChannelsSettings) -> None:
        """Have the channels use the secret of ``channels.defaults``, which was read again, from now on."""
        self._runner.renew(settings)

    def stop_following(self) -> None:
        """Start and stop no more channels."""
        if self._polling.running:
            self._polling.stop()

    async def stop(self) -> None:
        """Close the stores."""
        self.stop_following()
        globalLogPublisher.removeObserver(self._runner.logs)
        await self._store.stop()
        await self._messages.stop()

    def connector_settings(self, channel: str) -> ConnectorSettings:
        """Return the settings of a channel, which are kept where its messages are."""
        return self._messages.sibling(channel).connector_settings()

    def status(self) -> Mapping[str, Any]:
        """Return the state for ``/health``; it is down until the store was read for the first time."""
        store = dict(self._store.status())
        channels = sum(key.kind == CHANNELS for key in self._definitions)
        state = "ok" if store["ok"] else "degraded"
        return {
            "ok": self.loaded,
            "state": state if self.loaded else "waiting for the store",
            "channels": channels,
            "store": store,
        }

    async def _poll(self) -> None:
        try:
            await self.refresh()
        except CacheError:
            pass  # the store's monitor has logged it
        except Exception:
            self.log.failure("the channels could not be made as the store has them")

    async def refresh(self) -> Definitions:
        """Read the store, have the runner run what it has, and return it.

        :raises CacheError: the store can't be read now
        """
        self._definitions = await self._store.fetch()
        self.loaded = True
        self._runner.apply(self._definitions)
        return self._definitions

    async def known(self) -> Definitions:
        """Return the definitions as they are now, or where the store is away, as they were.

        :raises CacheError: the store has not been read yet
        """
        try:
            return await self.refresh()
        except CacheError:
            if not self.loaded:
                raise
            return self._definitions

    async def find(self, key: Key) -> Definition | None:
        """Return a definition, as ``known`` has it."""
        return (await self.known()).get(key)

    async def create(self, key: Key, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """Store a definition that is new, and run it; it is removed where the broker refuses its queues."""
        if not await self._store.replace(key, None, properties):
            raise ChangedMeanwhile("the id is taken")
        faults = await self._run(key)
        if faults:
            await self._store.remove(key)
            await self.refresh()
            raise QueuesRefused(f"it is not created: {'; '.join(faults)}")
        return properties

    async def change(
        self, key: Key, changed: Callable[[Definition], Mapping[str, Any]], missing: Exception
    ) -> Mapping[str, Any]:
        """Store a definition made from the present one, and run it; returns it.

        :param changed: may be called again, where another change comes first
        :param missing: is raised where the definition isn't there
        """
        for _ in range(_ATTEMPTS):
            before = (await self.refresh()).get(key)
            if before is None:
                raise missing
            properties = changed(before)
            if await self._store.replace(key, before, properties):
                faults = await self._run(key)
                if faults:
                    raise QueuesRefused(
                        f"it is stored, and takes effect when the broker has its queues: {'; '.join(faults)}"
                    )
                return properties
        raise ChangedMeanwhile("others change it all the time")

    async def _run(self, key: Key) -> list[str]:
        """Run what was stored; on return it runs, also where the poll has found it first.

        :return: why some of its queues can't be used
        """
        await self.refresh()
        return await self._runner.settled(key)

    async def restart(self, key: Key) -> None:
        """Restart the consumers of what runs."""
        await self._runner.restart(key)
        if faults := await self._runner.settled(key):
            raise QueuesRefused("; ".join(faults))

    async def remove(self, key: Key, missing: Exception) -> None:
        """Remove a definition, and stop what it runs.

        :param missing: is raised where it isn't there
        """
        if key not in await self.refresh():
            raise missing
        await self._store.remove(key)
        await self.refresh()
