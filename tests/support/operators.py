"""The operators' address of a running daemon, and messages that are parked or delayed there."""

from __future__ import annotations

import json
from typing import Any, cast

import pika
import treq

from junebug_turn.messages.vumi import Event, Message
from tests.support.daemon import Answered, Running, until
from tests.support.leaks import LEAKS

NUMBER = "+27821234567"
TEXT = "a text for nobody else"
DELAY = 7201
DELAY_QUEUE = f"junebug-turn.delay.{DELAY}s"
"""A delay queue that no other test has."""

FAILED = "2026-01-02T03:04:05+00:00"


class Desk:
    """An operator at the address of a running daemon, which is its last one."""

    def __init__(self, side: Running) -> None:
        self.side = side
        self.url = f"http://127.0.0.1:{cast(Any, side.daemon.addresses[-1]).port}"

    async def ask(self, method: str, path: str, data: Any = None, **options: Any) -> Answered:
        """Ask the API, whose answers are JSON."""
        body = None if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
        response = await treq.request(
            method, self.url + path, data=body, persistent=False, timeout=60, **options
        )
        text = await response.text()
        LEAKS.search("an answer to an operator", text)
        headers = {
            name.decode().lower(): values[0].decode() for name, values in response.headers.getAllRawHeaders()
        }
        return Answered(response.code, json.loads(text), headers)

    async def page(self, path: str, method: str = "GET", **options: Any) -> tuple[int, str]:
        """Ask for a page, without following a redirect."""
        response = await treq.request(
            method, self.url + path, persistent=False, timeout=60, allow_redirects=False, **options
        )
        text = await response.text()
        LEAKS.search("a page for operators", text)
        return response.code, text

    def park(self, kind: str, body: Message | Event | bytes, **headers: Any) -> None:
        """Park a message of the connector."""
        data = body if isinstance(body, bytes) else body.to_json()
        ours = {
            "reason": "http_status",
            "last_status": 503,
            "attempts": 8,
            "first_failure": "2026-01-02T03:04:05+00:00",
            "last_failure": "2026-01-02T04:04:05+00:00",
        }
        self.side.channel.basic_publish(
            "",
            f"{self.side.connector}.{kind}.parked",
            data,
            pika.BasicProperties(delivery_mode=2, expiration="3600000", headers=ours | headers),
        )

    def park_messages(self, number: int, **headers: Any) -> list[str]:
        """Park so many inbound messages; their ids."""
        messages = [inbound(f"{TEXT} {each}") for each in range(number)]
        for message in messages:
            self.park("inbound", message, **headers)
        return [message.message_id for message in messages]

    async def counted(self) -> None:
        """Have the daemon count its queues now."""
        await self.side.daemon.queue_counts.count()


class DelayDesk(Desk):
    """An operator, and messages in ``DELAY_QUEUE``."""

    def delay(self, message: Message, connector: str | None = None, **headers: Any) -> str:
        """Delay a message as the daemon does; its id."""
        ours = {"reason": "http_status", "last_status": 503, "attempts": 4, "delays": 1}
        ours |= {"first_failure": FAILED, "last_failure": FAILED} | headers
        properties = pika.BasicProperties(delivery_mode=2, headers=ours)
        key = f"{connector or self.side.connector}.inbound"
        self.side.channel.basic_publish(DELAY_QUEUE, key, message.to_json(), properties)
        return message.message_id

    def count(self) -> int:
        """The messages in the delay queue."""
        return int(self.side.channel.queue_declare(DELAY_QUEUE, passive=True).method.message_count)

    async def delayed(self, number: int) -> list[str]:
        """Delay so many messages; their ids."""
        ids = [self.delay(inbound(f"{TEXT} {each}")) for each in range(number)]
        await until(lambda: self.count() == number, "the delayed ones")
        return ids


def inbound(content: str | None = TEXT, **fields: Any) -> Message:
    of = {"to_addr": "+27829998888", "from_addr": NUMBER, "transport_name": "t", "transport_type": "sms"}
    return Message(content=content, **(of | fields))
