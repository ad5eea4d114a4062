"""Middleware that logs each message and event."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.logger import Logger, LogLevel

from junebug_turn.errors import ConfigError
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.middlewares.base import BaseMiddleware, BaseMiddlewareConfig
from junebug_turn.telemetry.masking import mask

_LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}


@frozen(kw_only=True)
class LoggingMiddlewareConfig(BaseMiddlewareConfig):
    """Its options.

    :ivar log_level: of its lines, in any case
    :ivar logger_name: their namespace
    """

    log_level: str = "info"
    logger_name: str = __name__


class LoggingMiddleware(BaseMiddleware):
    """Logs a line for each message and event: its ids and kind, never its text or a whole address."""

    CONFIG_CLASS = LoggingMiddlewareConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        level = _LEVELS.get(config.log_level.lower())
        if level is None:
            raise ConfigError("log_level: must be debug, info, warn, error or critical")
        self._level = level
        self._logger = Logger(namespace=config.logger_name)

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        """Log an inbound message."""
        return self._log_message("inbound", message, connector_name)

    async def handle_outbound(self, message: Message, connector_name: str) -> Message:
        """Log an outbound message."""
        return self._log_message("outbound", message, connector_name)

    async def handle_event(self, event: Event, connector_name: str) -> Event:
        """Log an event."""
        self._logger.emit(
            self._level,
            "Processed event {event_id} for {connector}: {event_type} of message {message_id}, "
            "delivery status {delivery_status}",
            event_id=event.event_id,
            connector=connector_name,
            event_type=event.event_type,
            message_id=event.user_message_id,
            delivery_status=event.delivery_status,
        )
        return event

    def _log_message(self, direction: str, message: Message, connector_name: str) -> Message:
        self._logger.emit(
            self._level,
            "Processed {direction} message {message_id} for {connector}: from {from_addr} to {to_addr}, "
            "{length} characters, in reply to {in_reply_to}, session event {session_event}",
            direction=direction,
            message_id=message.message_id,
            connector=connector_name,
            from_addr=message.from_addr and mask(message.from_addr),
            to_addr=message.to_addr and mask(message.to_addr),
            length=len(message.content or ""),
            in_reply_to=message.in_reply_to,
            session_event=message.session_event,
        )
        return message
