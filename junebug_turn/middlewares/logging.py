"""Middleware that logs each message and event."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.logger import Logger, LogLevel

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.middlewares.base import BaseMiddleware, BaseMiddlewareConfig
from junebug_turn.telemetry.masking import mask


@frozen(kw_only=True)
class LoggingMiddlewareConfig(BaseMiddlewareConfig):
    """The options of the middleware that logs."""

    log_level: str = option(types.LOG_LEVEL, "The level of its lines, in any case.", "INFO")
    logger_name: str = option(types.ANY_TEXT, "The namespace of its lines.", __name__)


class LoggingMiddleware(BaseMiddleware):
    """Middleware that logs a line for each message and event: its ids and kind, never its text or a whole address."""

    CONFIG_CLASS = LoggingMiddlewareConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._level = LogLevel.lookupByName(config.log_level.lower())
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
