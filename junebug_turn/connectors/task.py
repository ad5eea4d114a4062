"""A message that a connector received, while it is handled."""

from __future__ import annotations

import attrs
from attrs import define

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.connectors.history import History
from junebug_turn.errors import DeliveryFailed


@define(eq=False)
class Task:
    """A message that was received at ``since``; ``in_session`` ones are of no use after a long delay.

    :ivar message_id: that of the inbound message, or of the outbound message that an event is about
    :ivar event_id: that of an event
    :ivar forwarded: the ``amqp_queue`` that has it already; empty: none
    :ivar key: shared by messages that must not overtake each other
    """

    delivery: Delivery
    since: float
    message_id: str = "?"
    in_session: bool = False
    event_id: str = ""
    forwarded: str = ""
    key: str | None = None

    @property
    def came_back(self) -> bool:
        """Whether it was put off before."""
        return "reason" in self.delivery.headers

    @property
    def of_event(self) -> dict[str, str]:
        """The id of its event, for the journal; empty where it is an inbound message."""
        return {"event_id": self.event_id} if self.event_id else {}

    def history(self, failure: DeliveryFailed) -> History:
        """Read the history of earlier failures, which its headers carry."""
        history = History.read(self.delivery.headers, failure.first_failure)
        return attrs.evolve(history, forwarded=self.forwarded) if self.forwarded else history
