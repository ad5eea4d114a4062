"""What a middleware is: the base class, and the options that every one has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs
from attrs import frozen

from junebug_turn.errors import ConfigError
from junebug_turn.messages.vumi import Event, Message


@frozen(kw_only=True)
class BaseMiddlewareConfig:
    """The options of a middleware.  One with more of them has a subclass, ``@frozen(kw_only=True)`` too.

    :ivar class_path: its class
    :ivar enable_for_connectors: the ``connector_name`` of each application that it is for
    :ivar inbound_enabled: whether it sees inbound messages
    :ivar outbound_enabled: whether it sees outbound messages
    :ivar event_enabled: whether it sees events
    """

    class_path: str
    enable_for_connectors: list[str]
    inbound_enabled: bool = False
    outbound_enabled: bool = False
    event_enabled: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Self:
        """The options from their mapping in the configuration.

        :raises ConfigError: one is missing, unknown, or of a wrong type
        """
        fields = {field.name: field for field in attrs.fields(cls)}
        faults = [f"{name}: unknown option of {cls.__name__}" for name in options if name not in fields]
        for name, field in fields.items():
            if name not in options:
                if field.default is attrs.NOTHING:
                    faults.append(f"{name}: required by {cls.__name__}")
            elif str(field.type) in _CHECKS and not _CHECKS[str(field.type)](options[name]):
                faults.append(f"{name}: must be {_WORDS[str(field.type)]}")
        if faults:
            raise ConfigError(*faults)
        return cls(**options)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


# By the annotations, which are texts; whatever has another type is checked by whoever declares it.
_CHECKS = {
    "str": _is_text,
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "list[str]": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}
_WORDS = {
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "list[str]": "a list of texts",
}


class BaseMiddleware:
    """Sees the messages and events of its connectors, and may change them.

    Subclass it and override what you need.  ``Message`` and ``Event`` can't be changed in place:
    ``attrs.evolve(message, content="...")`` makes a changed copy.  Whatever a handler raises has its message
    parked (inbound messages and events), or its request answered with 500 (outbound ones).

    :cvar CONFIG_CLASS: its options
    """

    CONFIG_CLASS: ClassVar[type[BaseMiddlewareConfig]] = BaseMiddlewareConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    async def setup(self) -> None:
        """Called once, before the first message."""

    async def teardown_middleware(self) -> None:
        """Called once, after the last message."""

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
        """The message that goes on in place of an inbound one."""
        return message

    async def handle_outbound(self, message: Message, connector_name: str) -> Message:
        """The message that goes on in place of an outbound one."""
        return message

    async def handle_event(self, event: Event, connector_name: str) -> Event:
        """The event that goes on in place of an event."""
        return event
