"""Messages and events of vumi, and strict JSON.  Middlewares that users write import from here."""

from junebug_turn.messages.vumi import Event, Message

__all__ = ["Event", "Message"]
