"""Middleware that writes texts in ASCII, for networks that carry nothing else."""

from __future__ import annotations

from unicodedata import category

import attrs
from text_unidecode import unidecode

from junebug_turn.messages.vumi import Message
from junebug_turn.middlewares.base import BaseMiddleware

# Categories of Unicode whose characters only change those beside them: accents, joiners, skin tones.
_MODIFIERS = ("Mn", "Me", "Cf", "Sk")


class Unidecoder(BaseMiddleware):
    """Middleware that writes messages with the nearest ASCII characters: "Ünï, 你好" becomes "Uni, Ni Hao ".

    Characters without any ASCII form, as emoji, are left out, as vumi2 does it.  In a text of nothing else each becomes
    a "?", since an empty message says nothing, and some transports and receivers refuse it.
    """

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        """Write a message in ASCII."""
        if not message.content or message.content.isascii():
            return message
        content = unidecode(message.content)
        if not content.strip() and message.content.strip():
            content = "".join(map(_visible, message.content)) or "?"
        return attrs.evolve(message, content=content)

    handle_outbound = handle_inbound


def _visible(character: str) -> str:
    return unidecode(character) or ("" if category(character) in _MODIFIERS else "?")
