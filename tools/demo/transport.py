"""The simulated transport of the demo: vumi's side of a connector's queues, in a thread.

It shares no code with the daemon: what it reads and writes is vumi's format.  Tested by tests/tools/demo/test_phone.py.
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

MAX_WAITING = 1000  # messages of the phone while the broker is away

OUTCOMES = ("delivered", "pending", "failed", "nack")
"""The fates that a message to the phone can have."""

OUTPUT = threading.Lock()
"""Held while a line is printed."""


def say(name: str, text: str) -> None:
    """Print a line for the person at the terminal."""
    with OUTPUT:
        print(f"{name} | {text}", flush=True)


def timestamp() -> str:
    """Write the time as vumi does."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def event(message: dict[str, Any], event_type: str, **fields: str) -> dict[str, Any]:
    """Build vumi's event about ``message``."""
    return {
        "user_message_id": message["message_id"],
        "event_id": uuid.uuid4().hex,
        "event_type": event_type,
        "message_version": "20110921",
        "message_type": "event",
        "timestamp": timestamp(),
        "routing_metadata": {},
        "helper_metadata": message.get("helper_metadata") or {},
        "transport_metadata": {},
        "sent_message_id": None,
        "nack_reason": None,
        "delivery_status": None,
        **fields,
    }


def outcome_events(message: dict[str, Any], outcome: str) -> list[dict[str, Any]]:
    """Build the events that a transport sends for ``message`` when it ends with ``outcome``."""
    if outcome == "nack":
        return [event(message, "nack", nack_reason="the simulated network refused it")]
    acked = event(message, "ack", sent_message_id=message["message_id"])
    return [acked, event(message, "delivery_report", delivery_status=outcome)]


class Transport(threading.Thread):
    """The transport; a thread, because pika's simple client blocks.  It reconnects for ever.

    :param options: of the command line
    :param on_outbound: is called, in this thread, with each message for the phone
    :ivar outcome: one of ``OUTCOMES``, for the messages that come from now on
    """

    def __init__(self, options: argparse.Namespace, on_outbound: Callable[[dict[str, Any]], object]) -> None:
        super().__init__(daemon=True)
        self._parameters = pika.URLParameters(options.amqp_url)
        self._connector = options.connector
        self._to_addr = options.to_addr
        self._transport_type = options.transport_type
        self.outcome: str = options.outcome
        self._say = partial(say, options.name)
        self._on_outbound = on_outbound
        self._typed: queue.Queue[dict[str, Any]] = queue.Queue(MAX_WAITING)
        self._unsent: dict[str, Any] | None = None
        self._is_away = False

    def send(self, from_addr: str, content: str | None, session_event: str | None) -> bool:
        """Publish an inbound message as soon as the broker is there; False when too many wait already."""
        message = {
            "to_addr": self._to_addr,
            "from_addr": from_addr,
            "transport_name": self._connector,
            "transport_type": self._transport_type,
            "message_version": "20110921",
            "message_type": "user_message",
            "timestamp": timestamp(),
            "routing_metadata": {},
            "helper_metadata": {},
            "message_id": uuid.uuid4().hex,
            "in_reply_to": None,
            "provider": None,
            "session_event": session_event,
            "content": content,
            "transport_metadata": {},
            "group": None,
            "to_addr_type": None,
            "from_addr_type": None,
        }
        try:
            self._typed.put_nowait(message)
        except queue.Full:
            return False
        return True

    def run(self) -> None:
        while True:
            try:
                with pika.BlockingConnection(self._parameters) as connection:
                    self._serve(connection.channel())
            except (pika.exceptions.AMQPError, OSError) as error:
                # Once for each outage, which can last minutes.
                if not self._is_away:
                    self._say(f"no broker ({type(error).__name__}), trying again")
                self._is_away = True
                time.sleep(1)

    def _serve(self, channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        channel.exchange_declare("vumi", "direct", durable=True)
        for kind in ("inbound", "event", "outbound"):
            name = f"{self._connector}.{kind}"
            channel.queue_declare(name, durable=True)
            channel.queue_bind(name, "vumi", name)
        channel.basic_qos(prefetch_count=20)
        self._is_away = False
        self._say(f"connected to the broker as the transport of {self._connector}")
        for method, _, body in channel.consume(f"{self._connector}.outbound", inactivity_timeout=0.1):
            if method is not None:
                self._outbound(channel, body)
                channel.basic_ack(method.delivery_tag)
            self._publish_typed(channel)

    def _outbound(self, channel: BlockingChannel, body: bytes) -> None:
        try:
            message = json.loads(body)
            events = outcome_events(message, self.outcome)
        except (ValueError, KeyError, TypeError) as error:
            self._say(f"left out an outbound message that can't be read: {error!r}")
            return
        self._on_outbound(message)
        for each in events:
            self._publish(channel, "event", each)

    def _publish_typed(self, channel: BlockingChannel) -> None:
        # A line is out of the queue only when the broker has it: a connection that breaks loses none.
        while self._unsent is not None or not self._typed.empty():
            if self._unsent is None:
                self._unsent = self._typed.get_nowait()
            self._publish(channel, "inbound", self._unsent)
            self._unsent = None

    def _publish(self, channel: BlockingChannel, kind: str, fields: dict[str, Any]) -> None:
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
        channel.basic_publish("vumi", f"{self._connector}.{kind}", json.dumps(fields).encode(), properties)
