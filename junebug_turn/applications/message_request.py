"""The request for an outbound message: the fields that every API has for it, and the message that it becomes."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from junebug_turn.errors import ApiUsageError, InvalidBody
from junebug_turn.messages.vumi import CLOSE, TRANSPORT_TYPES, Message

MAX_ADDRESS = 255
"""Characters of an address or an id in a request: what is remembered of a message has these."""


def check_size(name: str, text: str | None, most: int = MAX_ADDRESS) -> str | None:
    """Return a text of a request's JSON.

    :param name: the field, as the API writes it in errors
    :raises InvalidBody: it has more than ``most`` characters
    """
    if text is not None and len(text) > most:
        raise InvalidBody(f"{name} must not be longer than {most} characters")
    return text


@frozen(kw_only=True)
class MessageRequest:
    """A validated request for an outbound message; each API has a subclass, which reads its JSON.

    Its ``repr`` has no text and no address: the log may show it.

    :ivar reply_to: the id of the inbound message that it answers
    :ivar continue_session: False closes the session of a reply that has no ``session_event``
    :ivar channel_data: the message's ``helper_metadata``
    """

    content: str | None = field(repr=False)
    to: str | None = field(default=None, repr=False)
    from_addr: str | None = field(default=None, repr=False)
    reply_to: str | None = None
    group: str | None = field(default=None, repr=False)
    session_event: str | None = None
    continue_session: bool | None = None
    channel_data: dict[str, Any] = field(factory=dict, repr=False)

    def as_reply(self, inbound: Message, *, transport_name: str, transport_type: str) -> Message:
        """Return the outbound message that answers ``inbound``; the request's own addresses and group are ignored.

        ``transport_name`` and ``transport_type`` stand in where the inbound message had none that is known.  The
        types of its addresses are not copied: vumi2 rejects a message with a type that it doesn't know.
        """
        closes = self.session_event is None and self.continue_session is False
        return Message(
            to_addr=inbound.from_addr,
            from_addr=inbound.to_addr,
            group=inbound.group,
            provider=inbound.provider,
            transport_name=inbound.transport_name or transport_name,
            transport_type=inbound.transport_type
            if inbound.transport_type in TRANSPORT_TYPES
            else transport_type,
            transport_metadata=inbound.transport_metadata,
            in_reply_to=inbound.message_id,
            content=self.content,
            session_event=CLOSE if closes else self.session_event,
            helper_metadata=self.channel_data,
        )

    def as_new(
        self,
        *,
        default_from_addr: str | None,
        transport_name: str,
        transport_type: str,
        require_from: bool = True,
    ) -> Message:
        """Return the outbound message that answers nothing.

        :param require_from: whether it must have an address to send it from; else the transport chooses one
        :raises ApiUsageError: it must have one, and there is none
        """
        from_addr = self.from_addr or default_from_addr
        if from_addr is None and require_from:
            raise ApiUsageError(
                '"from" must be specified for a message that is no reply, unless default_from_addr is configured'
            )
        return Message(
            to_addr=self.to,
            from_addr=from_addr,
            group=self.group,
            content=self.content,
            transport_name=transport_name,
            transport_type=transport_type,
            session_event=self.session_event,
            helper_metadata=self.channel_data,
        )
