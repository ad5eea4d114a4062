"""Base class of middlewares, and the options that every middleware has.

Tested by tests/unit/middlewares/test_chain.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import frozen

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.config.types import ValueType
from junebug_turn.messages.vumi import Event, Message


def _middlewares(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("must be a list of mappings, one for each middleware")
    for place, entry in enumerate(value):
        if not all(isinstance(key, str) for key in entry):
            raise ValueError(f"must have texts as keys in entry {place}")
        if not isinstance(entry.get("class_path"), str) or not entry["class_path"]:
            raise ValueError(f"must have a class_path, a text, in entry {place}")
    return tuple(dict(entry) for entry in value)


MIDDLEWARES = ValueType("list of mappings", _middlewares, from_yaml=True)


@frozen(kw_only=True)
class BaseMiddlewareConfig:
    """The options of a middleware.  One with more of them has a subclass, ``@frozen(kw_only=True)`` too."""

    class_path: str = option(types.ANY_TEXT, "The class, by the path that it is imported from.")
    enable_for_connectors: list[str] = option(
        types.TEXTS, "The connector_name of each application that it is for."
    )
    inbound_enabled: bool = option(types.BOOLEAN, "Whether it sees inbound messages.", False)
    outbound_enabled: bool = option(types.BOOLEAN, "Whether it sees outbound messages.", False)
    event_enabled: bool = option(types.BOOLEAN, "Whether it sees events.", False)


class BaseMiddleware:
    """Base of the middlewares, which see the messages and events of their connectors, and may change them.

    Subclass it and override what you need.  ``Message`` and ``Event`` can't be changed in place:
    ``attrs.evolve(message, content="...")`` makes a changed copy.  Whatever a handler raises has its message
    parked (inbound messages and events), or its request answered with 500 (outbound ones).

    :cvar CONFIG_CLASS: its options
    """

    CONFIG_CLASS: ClassVar[type[BaseMiddlewareConfig]] = BaseMiddlewareConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    async def setup(self) -> None:
        """Prepare for messages; called once, before the first one."""

    async def teardown_middleware(self) -> None:
        """Clean up; called once, after the last message."""

    def inbound_enabled(self, connector_name: str) -> bool:
        """Whether ``handle_inbound`` is called for a connector; asked once, before the start."""
        return bool(self.config.inbound_enabled) and self._is_for(connector_name)

    def outbound_enabled(self, connector_name: str) -> bool:
        """Whether ``handle_outbound`` is called for a connector."""
        return bool(self.config.outbound_enabled) and self._is_for(connector_name)

    def event_enabled(self, connector_name: str) -> bool:
        """Whether ``handle_event`` is called for a connector."""
        return bool(self.config.event_enabled) and self._is_for(connector_name)

    def _is_for(self, connector_name: str) -> bool:
        return connector_name in self.config.enable_for_connectors

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        """Return the message that goes on in place of an inbound one."""
        return message

    async def handle_outbound(self, message: Message, connector_name: str) -> Message:
        """Return the message that goes on in place of an outbound one."""
        return message

    async def handle_event(self, event: Event, connector_name: str) -> Event:
        """Return the event that goes on in place of an event."""
        return event
