"""The chain of a connector's middlewares, and the middlewares that the configuration names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from junebug_turn.config.classpath import find_class
from junebug_turn.config.resolver import read_mapping
from junebug_turn.errors import ConfigError
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.middlewares.base import BaseMiddleware

_OURS = "junebug_turn.middlewares"
# The class paths that existing configuration files carry.
_ALIASES = {
    "vumi2.middlewares.logging.LoggingMiddleware": f"{_OURS}.logging.LoggingMiddleware",
    "vumi2.middlewares.unidecoder.Unidecoder": f"{_OURS}.unidecoder.Unidecoder",
}


def make_middlewares(
    entries: Iterable[Mapping[str, Any]], connectors: Iterable[str], *, more: bool = False
) -> list[BaseMiddleware]:
    """Make the middlewares of the configuration, in its order.

    :param connectors: the connectors that there are
    :param more: whether there can be more of them later
    :raises ConfigError: a line for each fault in them: no such class, options that it can't use, or a connector
        that isn't there
    """
    made: list[BaseMiddleware] = []
    faults: list[str] = []
    known = set(connectors)
    for number, entry in enumerate(entries):
        try:
            found = find_class(
                _ALIASES.get(entry["class_path"], entry["class_path"]),
                BaseMiddleware,
                key="class_path",
                base_path=f"{_OURS}.BaseMiddleware",
            )
            config = read_mapping(found.CONFIG_CLASS, entry, owner=found.CONFIG_CLASS.__name__)
            unknown = [name for name in config.enable_for_connectors if name not in known]
            if unknown and not more:
                raise ConfigError(f"enable_for_connectors: no application has the connector {unknown[0]!r}")
            made.append(found(config))
        except ConfigError as error:
            faults += [f"middlewares[{number}].{line}" for line in error.lines]
    if faults:
        raise ConfigError(*faults)
    return made


class Chain:
    """The middlewares of one connector, in the configuration's order: each gets the result of the one before it."""

    def __init__(self, middlewares: Iterable[BaseMiddleware], connector_name: str) -> None:
        self._name = connector_name
        everyone = list(middlewares)
        self._inbound = [each for each in everyone if each.inbound_enabled(connector_name)]
        self._outbound = [each for each in everyone if each.outbound_enabled(connector_name)]
        self._event = [each for each in everyone if each.event_enabled(connector_name)]

    @property
    def changes_outbound(self) -> bool:
        """Whether there is a middleware for outbound messages."""
        return bool(self._outbound)

    async def inbound(self, message: Message) -> Message:
        """Pass an inbound message through, on its way to the application."""
        for each in self._inbound:
            message = _checked(await each.handle_inbound(message, self._name), Message, each)
        return message

    async def outbound(self, message: Message) -> Message:
        """Pass an outbound message through, on its way to the queue."""
        for each in self._outbound:
            message = _checked(await each.handle_outbound(message, self._name), Message, each)
        return message

    async def event(self, event: Event) -> Event:
        """Pass an event through, on its way to the application."""
        for each in self._event:
            event = _checked(await each.handle_event(event, self._name), Event, each)
        return event


def _checked(value: Any, kind: type[Any], middleware: BaseMiddleware) -> Any:
    # A handler without "return" is easily written, and would lose what it was given.
    if not isinstance(value, kind):
        raise TypeError(f"{type(middleware).__name__} returned no {kind.__name__}")
    return value
