"""Middlewares as a user writes them, loaded by their paths."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import frozen
from twisted.internet.defer import Deferred

from junebug_turn.messages.vumi import Event, Message
from junebug_turn.middlewares.base import BaseMiddleware, BaseMiddlewareConfig
from junebug_turn.middlewares.chain import Chain, make_middlewares

ALL = {"inbound_enabled": True, "outbound_enabled": True, "event_enabled": True}
MARK = "tests.support.middlewares.Mark"


@frozen(kw_only=True)
class MarkConfig(BaseMiddlewareConfig):
    mark: str = "!"
    times: int = 1


class Mark(BaseMiddleware):
    """Appends a mark to the content, or to the reason of a nack."""

    CONFIG_CLASS = MarkConfig
    made: list[Mark] = []  # noqa: RUF012

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.calls: list[str] = []
        self.made.append(self)

    @property
    def mark(self) -> str:
        return str(self.config.mark) * int(self.config.times)

    async def setup(self) -> None:
        self.calls.append("setup")

    async def teardown_middleware(self) -> None:
        self.calls.append("teardown")

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        return attrs.evolve(message, content=f"{message.content}{self.mark}")

    async def handle_outbound(self, message: Message, connector_name: str) -> Message:
        return attrs.evolve(message, content=f"{message.content}{self.mark}")

    async def handle_event(self, event: Event, connector_name: str) -> Event:
        return attrs.evolve(event, nack_reason=f"{event.nack_reason}{self.mark}")


class Fails(BaseMiddleware):
    """Raises for whatever says "bad"."""

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        if message.content == "bad":
            raise RuntimeError("inbound")
        return message

    async def handle_outbound(self, message: Message, connector_name: str) -> Message:
        if message.content == "bad":
            raise RuntimeError("outbound")
        return message

    async def handle_event(self, event: Event, connector_name: str) -> Event:
        if event.nack_reason == "bad":
            raise RuntimeError("event")
        return event


class Forgets(BaseMiddleware):
    """Has no return."""

    async def handle_inbound(self, message: Message, connector_name: str) -> Message:
        pass  # type: ignore[return]


class NotOne:
    """Is no middleware."""


def made(*entries: dict[str, Any]) -> Chain:
    complete = [{"enable_for_connectors": ["sms"]} | entry for entry in entries]
    return Chain(make_middlewares(complete, ["sms", "ussd"]), "sms")


def result(work: Any) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(found.append)
    return found[0]


def message(content: str | None = "c") -> Message:
    return Message(
        to_addr="8110", from_addr="+26612345678", transport_name="t", transport_type="sms", content=content
    )
