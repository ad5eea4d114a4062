"""The routers, as the HTTP API asks for them: see ``backend.Routers``.

Tested by tests/integration/test_routers.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from twisted.web.resource import IResource

from junebug_turn.daemon.channels.patterns import read_pattern
from junebug_turn.daemon.channels.router_runner import FROM_ADDRESS, channel_of, why_not
from junebug_turn.daemon.channels.runner import ChannelRunner
from junebug_turn.daemon.channels.service import ChannelsService
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.errors import (
    DestinationNotFound,
    InvalidRouterConfig,
    InvalidRouterDestinationConfig,
    InvalidRouterType,
    RouterNotFound,
)
from junebug_turn.http.admin.channels.backend import Properties
from junebug_turn.state.channel_store import DESTINATIONS, ROUTERS, Definition, Definitions, Key
from junebug_turn.telemetry.logging.channel_logs import ChannelLogs


class Routers:
    """Routers and their destinations."""

    def __init__(
        self, service: ChannelsService, runner: ChannelRunner, settings: ChannelsSettings, logs: ChannelLogs
    ) -> None:
        self._service = service
        self._runner = runner
        self._settings = settings
        self._logs = logs

    async def ids(self) -> list[str]:
        return sorted(key.id for key in await self._service.known() if key.kind == ROUTERS)

    async def show(self, id: str) -> Properties:
        return (await self._router(id)).properties

    async def create(self, properties: Properties) -> Properties:
        id = str(uuid.uuid4())
        _check(id, properties, await self._service.refresh())
        return await self._service.create(Key.of_router(id), {**properties, "id": id})

    async def update(self, id: str, changes: Properties, *, replace: bool) -> Properties:
        def changed(before: Definition) -> Mapping[str, Any]:
            properties = {**({} if replace else before.properties), **changes, "id": id}
            _check(id, properties, self._service.definitions)
            return properties

        return await self._service.change(Key.of_router(id), changed, _no_router(id))

    async def delete(self, id: str) -> None:
        await self._service.remove(Key.of_router(id), _no_router(id))

    async def logs(self, id: str, limit: int | None) -> list[Properties]:
        await self._router(id)
        return list(self._logs.latest(id, limit))

    async def destinations(self, id: str) -> list[str]:
        await self._router(id)
        found = self._service.definitions
        return sorted(key.id for key in found if key.kind == DESTINATIONS and key.router == id)

    async def show_destination(self, id: str, destination: str) -> Properties:
        return (await self._destination(id, destination)).properties

    async def create_destination(self, id: str, properties: Properties) -> Properties:
        router = await self._router(id)
        destination = str(uuid.uuid4())
        self._check_destination(id, destination, router, properties)
        key = Key.destination(id, destination)
        return await self._service.create(key, {**properties, "id": destination})

    async def update_destination(
        self, id: str, destination: str, changes: Properties, *, replace: bool
    ) -> Properties:
        router = await self._router(id)

        def changed(before: Definition) -> Mapping[str, Any]:
            properties = {**({} if replace else before.properties), **changes, "id": destination}
            self._check_destination(id, destination, router, properties)
            return properties

        missing = _no_destination(id, destination)
        return await self._service.change(Key.destination(id, destination), changed, missing)

    async def delete_destination(self, id: str, destination: str) -> None:
        await self._router(id)
        await self._service.remove(Key.destination(id, destination), _no_destination(id, destination))

    async def application(self, id: str, destination: str) -> IResource:
        await self._destination(id, destination)
        return self._runner.application(Key.destination(id, destination))

    async def _router(self, id: str) -> Definition:
        found = await self._service.find(Key.of_router(id))
        if found is None:
            raise _no_router(id)
        return found

    async def _destination(self, id: str, destination: str) -> Definition:
        await self._router(id)
        found = self._service.definitions.get(Key.destination(id, destination))
        if found is None:
            raise _no_destination(id, destination)
        return found

    def _check_destination(
        self, router: str, id: str, definition: Definition, properties: Mapping[str, Any]
    ) -> None:
        try:
            read_pattern(properties)
        except ValueError as error:
            raise InvalidRouterDestinationConfig(str(error)) from None
        self._settings.destination(router, id, channel_of(definition.properties), properties)


def _check(id: str, properties: Mapping[str, Any], definitions: Definitions) -> None:
    """Check the definition of a router.

    :raises InvalidRouterType: its type is not known
    :raises InvalidRouterConfig: its channel can't be routed
    """
    type = properties.get("type")
    if type != FROM_ADDRESS:
        raise InvalidRouterType(f"Invalid router type {str(type)[:100]}, must be one of: {FROM_ADDRESS}")
    if "channel" not in (properties.get("config") or {}):
        raise InvalidRouterConfig("Missing required config field 'channel'")
    channel = channel_of(properties)
    try:
        uuid.UUID(channel)
    except ValueError:
        raise InvalidRouterConfig(
            "Error parsing config field 'channel': 'channel' is not a valid UUID"
        ) from None
    reason = why_not(Definition(b"", properties), definitions)
    if reason is not None:
        raise InvalidRouterConfig(reason)
    for key, router in definitions.items():
        if key.kind == ROUTERS and key.id != id and channel_of(router.properties) == channel:
            raise InvalidRouterConfig(f"Router {key.id} is already routing channel {channel}")


def _no_router(id: str) -> RouterNotFound:
    return RouterNotFound(f"Router with ID {id[:100]} cannot be found")


def _no_destination(router: str, id: str) -> DestinationNotFound:
    return DestinationNotFound(f"Cannot find destination with ID {id[:100]} for router {router[:100]}")
