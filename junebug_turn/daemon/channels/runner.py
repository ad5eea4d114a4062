"""The runner of channels: it makes what runs the same as what the store has.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from junebug_turn.daemon.channels.router_runner import RouterRunner, channel_of
from junebug_turn.daemon.channels.running import Parts, RunningChannel, Work
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.daemon.channels.statuses import StatusConsumers
from junebug_turn.errors import ApiUsageError, ConfigError, DeliveryRefused, InvalidBody
from junebug_turn.http.admin.channels.api import Below
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.errors import envelope
from junebug_turn.http.mounts import Mount, Mounts
from junebug_turn.state.channel_store import CHANNELS, DESTINATIONS, ROUTERS, Definition, Definitions, Key
from junebug_turn.telemetry.logging.channel_logs import ChannelLogs
from junebug_turn.telemetry.metrics import Metrics

NO_DESTINATION = 'This channel has no "mo_url" or "amqp_queue"'


@define(eq=False)
class _Channel:
    """A channel or destination of the store, with its application where it has one that can run."""

    definition: Definition
    running: RunningChannel | None = None
    fault: str = NO_DESTINATION


@define(eq=False)
class ChannelRunner:
    """Starts, changes and stops channels, routers and destinations as their definitions change.

    :ivar mounts: the paths of the server of the API
    :ivar authenticator: checks the requests to the channels
    :ivar applications: connector -> word of its application, for the metrics
    :ivar configured: the connectors of configured applications, whose names no channel can have
    """

    settings: ChannelsSettings
    parts: Parts
    mounts: Mounts
    authenticator: Authenticator
    logs: ChannelLogs
    metrics: Metrics
    applications: dict[str, str]
    configured: frozenset[str]
    _channels: dict[Key, _Channel] = field(factory=dict, init=False)
    _statuses: StatusConsumers = field(init=False)
    _routers: RouterRunner = field(init=False)
    _applied: Definitions | None = field(default=None, init=False)
    _under_way: set[Deferred[None]] = field(factory=set, init=False)
    # By the id of a channel, router or destination, while work on it is under way.
    _locks: dict[str, DeferredLock] = field(factory=dict, init=False)
    # By such an id too: the last work on it has failed.
    _failed: set[str] = field(factory=set, init=False)

    log = Logger()

    @_statuses.default
    def _status_consumers(self) -> StatusConsumers:
        return StatusConsumers(self.parts, self.settings)

    @_routers.default
    def _router_runner(self) -> RouterRunner:
        return RouterRunner(self.settings, self.parts, self.logs)

    def apply(self, definitions: Definitions) -> None:
        """Make what runs the same as ``definitions``; ``settled`` waits until that is done for one of them.

        What is stopped takes no more messages from now on, and ends those under way behind our back.
        """
        if definitions is self._applied:
            return
        self._applied = definitions
        wanted = {
            key: found
            for key, found in definitions.items()
            if key.kind != ROUTERS and not (key.kind == CHANNELS and key.id in self.configured)
        }
        work: list[Work] = []
        for key in [key for key in self._channels if key not in wanted]:
            self._stop(key)
        for key, definition in wanted.items():
            try:
                work += [(key.id, each) for each in self._apply_one(key, definition, definitions)]
            except Exception:
                self.log.failure("{what} can't be run or changed", what=_what(key), channel=key.id)
        work += self._routers.apply(definitions, self._follow)
        channels = {key.id: found for key, found in wanted.items() if key.kind == CHANNELS}
        work += self._statuses.apply(channels, self._follow)
        self._failed.difference_update(id for id, _ in work)
        for id, each in work:
            self._follow(self._do(id, each))

    def renew(self, settings: ChannelsSettings) -> None:
        """Sign with the secret of these settings, which were read again, from now on; all else stays as it was."""
        self.settings.renew(settings)
        for channel in self._channels.values():
            if channel.running is not None:
                channel.running.renew(self.settings.template.webhook_secret)
        self._statuses.renew()

    async def settled(self, key: Key) -> list[str]:
        """Wait for the work that is under way on a channel, or on a router or one of its destinations.

        On return the queues are declared, where there is a broker, and the consumers are those of the definition.

        :return: why some of the queues can't be used
        :raises RuntimeError: the work has failed, which is logged
        """
        for id in (key.id, key.router):
            if id in self._locks:
                await self._do(id, _nothing)
        if not self._failed.isdisjoint((key.id, key.router)):
            raise RuntimeError("a change could not be applied")
        channel = self._channels.get(key)
        faults = [] if channel is None or channel.running is None else channel.running.faults()
        return faults + self._statuses.faults(key.id) + self._routers.faults(key.router or key.id)

    async def _do(self, id: str, work: Callable[[], Any]) -> None:
        """Do work on a channel, router or destination after the work on it that is under way."""
        lock = self._locks.setdefault(id, DeferredLock())
        await lock.acquire()
        try:
            await work()
        except Exception:
            self._failed.add(id)
            raise
        finally:
            lock.release()
            if not lock.locked and self._locks.get(id) is lock:
                del self._locks[id]

    def _apply_one(
        self, key: Key, definition: Definition, definitions: Definitions
    ) -> Iterable[Callable[[], Any]]:
        known = self._channels.get(key)
        if known is None:
            return self._start(key, definition, definitions)
        # The channel of a destination is its router's.
        if known.definition is not definition or key.kind == DESTINATIONS:
            return self._change(key, known, definition, definitions)
        return []

    def _start(
        self, key: Key, definition: Definition, definitions: Definitions
    ) -> Iterable[Callable[[], Any]]:
        channel = self._channels[key] = _Channel(definition)
        if key.kind == CHANNELS:
            self.applications[key.id] = "junebug"
            self.logs.add(key.id)
        self.log.info("{what} runs", what=_what(key), channel=key.id)
        return self._run(key, channel, definitions)

    def _change(
        self, key: Key, channel: _Channel, definition: Definition, definitions: Definitions
    ) -> Iterable[Callable[[], Any]]:
        channel.definition = definition
        running = channel.running
        if running is None:
            return self._run(key, channel, definitions)
        try:
            options = self._options(key, definition, definitions)
        except (InvalidBody, ConfigError, DeliveryRefused) as error:
            options = None
            self._fail(key, channel, str(error))
        if options is None:
            channel.running = None
            self.mounts.remove(self._path(key))
            self._follow(running.stop())
            return []
        if options == running.options:
            return []
        changed = options

        async def change() -> None:
            await running.change(changed)
            self._mount(key, channel)

        return [change]

    def _run(self, key: Key, channel: _Channel, definitions: Definitions) -> Iterable[Callable[[], Any]]:
        """Start the application of a channel that has none running."""
        channel.fault = NO_DESTINATION
        try:
            options = self._options(key, channel.definition, definitions)
            if options is None:
                return []
            running = RunningChannel(self.parts, key.id, options)
        except (InvalidBody, ConfigError, DeliveryRefused) as error:
            self._fail(key, channel, str(error))
            return []
        channel.running = running
        self._mount(key, channel)
        return [running.prepare]

    def _mount(self, key: Key, channel: _Channel) -> None:
        """Have requests with messages find the application; it may have been stopped meanwhile."""
        if channel.running is not None and self._channels.get(key) is channel:
            messages = Below(channel.running.resource, "messages")
            mount = Mount(messages, channel.running.options.connector_name, envelope, self.authenticator)
            self.mounts.add(self._path(key), mount)

    def _fail(self, key: Key, channel: _Channel, fault: str) -> None:
        channel.fault = f"This channel can't run: {fault}"
        self.log.error("{what} can't run: {fault}", what=_what(key), fault=fault, channel=key.id)

    def _stop(self, key: Key) -> None:
        channel = self._channels.pop(key)
        if channel.running is not None:
            self.mounts.remove(self._path(key))
        self.log.info("{what} is stopped", what=_what(key), channel=key.id)

        async def stop() -> None:
            if channel.running is not None:
                await channel.running.stop()
            if key.kind == CHANNELS and key not in self._channels:
                self.metrics.forget(key.id)
                self.applications.pop(key.id, None)
                self.logs.remove(key.id)

        self._follow(stop())

    def _follow(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work behind the caller's back, and log its failure."""
        doing = Deferred.fromCoroutine(work)
        self._under_way.add(doing)

        def done(result: Any) -> None:
            self._under_way.discard(doing)
            if isinstance(result, Failure):
                self.log.failure("a channel could not be started, changed or stopped", failure=result)

        doing.addBoth(done)

    def _options(self, key: Key, definition: Definition, definitions: Definitions) -> Any:
        if key.kind == CHANNELS:
            return self.settings.channel(key.id, definition.properties)
        channel = self._connector(key, definitions)
        return self.settings.destination(key.router, key.id, channel, definition.properties)

    def _connector(self, key: Key, definitions: Definitions) -> str:
        """Return the connector of a channel, or that of the channel of a destination's router."""
        if key.kind == CHANNELS:
            return key.id
        router = definitions.get(Key.of_router(key.router))
        return "" if router is None else channel_of(router.properties)

    def _path(self, key: Key) -> str:
        if key.kind == CHANNELS:
            return self.settings.path("channels", key.id, "messages")
        return self.settings.path("routers", key.router, "destinations", key.id, "messages")

    # What the API asks for

    def application(self, key: Key) -> IResource:
        """Return the resource that takes the messages of a channel or destination that is there.

        :raises ApiUsageError: there is none
        """
        channel = self._channels[key]
        if channel.running is None:
            raise ApiUsageError(channel.fault)
        return channel.running.resource

    async def restart(self, key: Key) -> None:
        """Restart the consumers of a channel, where it has some."""
        channel = self._channels.get(key)
        if channel is not None and channel.running is not None:
            await channel.running.restart()
            self._mount(key, channel)


async def _nothing() -> None:
    """Do no work, but wait for what is under way."""


def _what(key: Key) -> str:
    return f"{'channel' if key.kind == CHANNELS else 'destination'} {key.id}"
