"""The channels of the store and of the configuration, as the HTTP API asks for them.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from twisted.web.resource import IResource

from junebug_turn.daemon.channels.runner import ChannelRunner
from junebug_turn.daemon.channels.service import ChannelsService
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.daemon.channels.status import ChannelStatus
from junebug_turn.errors import ChannelConfigured, ChannelNotFound, InvalidChannelType
from junebug_turn.http.admin.channels.backend import Properties
from junebug_turn.state.channel_store import CHANNELS, Definition, Key
from junebug_turn.telemetry.logging.channel_logs import ChannelLogs

TYPES = ("telnet", "xmpp", "smpp", "dmark")


class Channels:
    """The channels, as the HTTP API asks for them: see ``backend.Channels``.

    :param configured: connector -> what the API shows of a configured application
    :param applications: connector -> the resource of a configured application that takes Junebug's messages
    """

    def __init__(
        self,
        service: ChannelsService,
        runner: ChannelRunner,
        settings: ChannelsSettings,
        status: ChannelStatus,
        logs: ChannelLogs,
        configured: Mapping[str, Properties],
        applications: Mapping[str, IResource],
    ) -> None:
        self._service = service
        self._runner = runner
        self._settings = settings
        self._status = status
        self._logs = logs
        self._configured = configured
        self._applications = applications

    async def ids(self) -> list[str]:
        stored = {key.id for key in await self._service.known() if key.kind == CHANNELS}
        return sorted(stored | self._configured.keys())

    async def show(self, id: str) -> Properties:
        if id in self._configured:
            return await self._shown(id, self._configured[id])
        return await self._shown(id, (await self._found(id)).properties)

    async def create(self, properties: Properties) -> Properties:
        self._check(properties)
        id = str(uuid.uuid4())
        self._settings.channel(id, properties)
        await self._service.create(Key.channel(id), properties)
        return await self._shown(id, properties)

    async def update(self, id: str, changes: Properties) -> Properties:
        self._refuse_configured(id)
        if "type" in changes:
            self._check(changes)

        def changed(before: Definition) -> Properties:
            properties = {**before.properties, **changes}
            self._settings.channel(id, properties)
            return properties

        return await self._shown(
            id, await self._service.change(Key.channel(id), changed, ChannelNotFound(""))
        )

    async def delete(self, id: str) -> None:
        self._refuse_configured(id)
        await self._service.remove(Key.channel(id), ChannelNotFound(""))

    async def restart(self, id: str) -> None:
        self._refuse_configured(id)
        await self._found(id)
        await self._service.restart(Key.channel(id))

    async def logs(self, id: str, limit: int | None) -> list[Properties]:
        if id not in self._configured:
            await self._found(id)
        return list(self._logs.latest(id, limit))

    async def application(self, id: str) -> IResource:
        if id in self._applications:
            return self._applications[id]
        await self._found(id)
        return self._runner.application(Key.channel(id))

    async def _found(self, id: str) -> Definition:
        found = await self._service.find(Key.channel(id))
        if found is None or id in self._configured:
            raise ChannelNotFound("")
        return found

    async def _shown(self, id: str, properties: Properties) -> Properties:
        return {**properties, "id": id, "status": await self._status.of(id)}

    def _check(self, properties: Properties) -> None:
        known = (*TYPES, *(self._settings.options.extra_types or ()))
        if properties["type"] not in known:
            raise InvalidChannelType(
                f"Invalid channel type u'{properties['type'][:100]}', must be one of: {', '.join(known)}"
            )

    def _refuse_configured(self, id: str) -> None:
        if id in self._configured:
            raise ChannelConfigured(
                f"channel {id} is configured in {self._settings.place}: change it there and start the daemon again"
            )
