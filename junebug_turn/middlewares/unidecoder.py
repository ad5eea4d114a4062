"""A middleware that writes texts in ASCII, for networks that carry nothing else."""

from __future__ import annotations

import attrs
from text_unidecode import unidecode

from junebug_turn.messages.vumi import Message
from junebug_turn.middlewares.base import BaseMiddleware


class Unidecoder(BaseMiddleware):
    """Writes the content of messages with the nearest ASCII characters: "Ünï, 你好" becomes "Uni, Ni Hao "."""

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        """An inbound message in ASCII."""
        return _in_ascii(message)

    async def handle_outbound(self, message: Message, connector_name: str) -> Message:
        """An outbound message in ASCII."""
        return _in_ascii(message)


def _in_ascii(message: Message) -> Message:
    if not message.content or message.content.isascii():
        return message
    return attrs.evolve(message, content=unidecode(message.content))
