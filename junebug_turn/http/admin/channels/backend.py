"""Interface between the HTTP API of channels and routers and the daemon behind it.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.web.resource import IResource

Properties = Mapping[str, Any]


class Channels(Protocol):
    """The channels of the daemon.

    Every method with an id raises ``ChannelNotFound`` for one that is not there.  Those that change something raise
    ``ChannelConfigured`` for a channel that a file configures, and ``Passing`` where the store can't be written now.
    """

    async def ids(self) -> list[str]:
        """Return the ids of all channels, sorted."""

    async def show(self, id: str) -> Properties:
        """Return the properties of a channel with its ``id`` and ``status``."""

    async def create(self, properties: Properties) -> Properties:
        """Make a channel, and return what ``show`` does.

        :raises InvalidChannelType: its type is not known
        :raises InvalidBody: a property can't be used
        """

    async def update(self, id: str, changes: Properties) -> Properties:
        """Change some properties, and return what ``show`` does; raises as ``create`` does."""

    async def delete(self, id: str) -> None:
        """Delete a channel.  Its queues stay."""

    async def restart(self, id: str) -> None:
        """End the channel's consumers, and make them anew."""

    async def logs(self, id: str, limit: int | None) -> list[Properties]:
        """Return the last log lines about a channel, the newest first."""

    async def application(self, id: str) -> IResource:
        """Return the resource that takes the messages of a channel.

        :raises ApiUsageError: it has none
        """


class Routers(Protocol):
    """The routers of the daemon and their destinations.

    Every method with an id raises ``RouterNotFound`` or ``DestinationNotFound`` for one that is not there; those that
    store something raise ``InvalidRouterType``, ``InvalidRouterConfig``, ``InvalidRouterDestinationConfig`` or
    ``InvalidBody`` where it can't be used, and ``Passing`` where the store can't be written now.
    """

    async def ids(self) -> list[str]:
        """Return the ids of all routers, sorted."""

    async def show(self, id: str) -> Properties:
        """Return the definition of a router."""

    async def create(self, properties: Properties) -> Properties:
        """Make a router, and return its definition."""

    async def update(self, id: str, changes: Properties, *, replace: bool) -> Properties:
        """Change some properties of a router, or all, and return its definition."""

    async def delete(self, id: str) -> None:
        """Delete a router with its destinations."""

    async def logs(self, id: str, limit: int | None) -> list[Properties]:
        """Return the last log lines about a router, the newest first."""

    async def destinations(self, id: str) -> list[str]:
        """Return the ids of the destinations of a router, sorted."""

    async def show_destination(self, id: str, destination: str) -> Properties:
        """Return the definition of a destination."""

    async def create_destination(self, id: str, properties: Properties) -> Properties:
        """Make a destination, and return its definition."""

    async def update_destination(
        self, id: str, destination: str, changes: Properties, *, replace: bool
    ) -> Properties:
        """Change some properties of a destination, or all, and return its definition."""

    async def delete_destination(self, id: str, destination: str) -> None:
        """Delete a destination."""

    async def application(self, id: str, destination: str) -> IResource:
        """Return the resource that takes the messages of a destination."""
