"""Load of the fault suite: clients that send over HTTP, and transports that publish inbound messages and events.

Tested by tests/integration/test_faults.py.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter, deque
from contextlib import suppress

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError, NackError, UnroutableError

from junebug_turn.messages.vumi import Event, Message
from tools.faults.counts import Counts
from tools.servers.process import HOST
from tools.servers.rabbitmq import RabbitNode

PAUSE = 0.02  # seconds between two messages of a thread
CLIENT_TIMEOUT = 30.0  # seconds
SENDERS = 40  # phone numbers: those of one wait for each other


def connect(node: RabbitNode) -> BlockingConnection:
    """Connect to the broker, without any code of the daemon.

    :raises AMQPError: it can't be had now
    """
    credentials = pika.PlainCredentials(node.username, node.password)
    return BlockingConnection(
        pika.ConnectionParameters(node.host, node.port, node.vhost, credentials, heartbeat=0)
    )


class Sender(ABC, threading.Thread):
    """A thread that sends one message after the other, until ``stop()``."""

    def __init__(self, counts: Counts) -> None:
        super().__init__(name=counts.kind, daemon=True)
        self.counts = counts
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Send no more; the last one may take a while."""
        self._stopped.set()

    def run(self) -> None:
        """Send."""
        while not self._stopped.wait(PAUSE):
            self.prepare()
            name = uuid.uuid4().hex
            # Noted first: it can arrive before its confirm does.
            self.counts.begin(name)
            accepted = False
            try:
                accepted = self.send(name)
            finally:
                self.counts.end(name, accepted)
        self.close()

    def prepare(self) -> None:
        """Do what is not a message's own time, such as to connect."""

    @abstractmethod
    def send(self, name: str) -> bool:
        """Send the message ``name``; whether it was accepted."""

    def close(self) -> None:
        """Close its connection."""


class Client(Sender):
    """Sends outbound messages; each is accepted with a 201.

    :ivar answers: how many there were with each status; 0 is no answer
    :ivar message_ids: those of the newest accepted messages
    """

    def __init__(self, counts: Counts, port: int, path: str, event_url: str, message_ids: deque[str]) -> None:
        super().__init__(counts)
        self._port = port
        self._path = path
        self._event_url = event_url
        self.answers: Counter[int] = Counter()
        self.message_ids = message_ids

    def send(self, name: str) -> bool:
        body = {"to": "+27820000001", "from": "8110", "content": name, "event_url": self._event_url}
        connection = http.client.HTTPConnection(HOST, self._port, timeout=CLIENT_TIMEOUT)
        status = 0
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", self._path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            status = answer.status
            if status == 201:
                self.message_ids.append(json.loads(text)["result"]["message_id"])
        connection.close()
        self.answers[status] += 1
        return status == 201


class Transport(Sender):
    """Publishes inbound messages or events; each is accepted with a confirm."""

    def __init__(self, counts: Counts, node: RabbitNode, connector: str, message_ids: deque[str]) -> None:
        super().__init__(counts)
        self._node = node
        self._connector = connector
        self._message_ids = message_ids
        self._channel: BlockingChannel | None = None
        self._count = 0

    def prepare(self) -> None:
        with suppress(AMQPError, OSError):
            self._connect()

    def _connect(self) -> None:
        if self._channel is None:
            self._channel = connect(self._node).channel()
            self._channel.confirm_delivery()

    def send(self, name: str) -> bool:
        body = self._body(name)
        if body is None:
            return False
        properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
        try:
            self._connect()
            assert self._channel is not None
            queue = f"{self._connector}.{self.counts.kind}"
            self._channel.basic_publish("vumi", queue, body, properties, mandatory=True)
        except (UnroutableError, NackError):
            # The queue is not there now.
            return False
        except (AMQPError, OSError):
            self._channel = None
            time.sleep(0.1)
            return False
        return True

    def _body(self, name: str) -> bytes | None:
        self._count += 1
        if self.counts.kind == "inbound":
            return Message(
                to_addr="8110",
                from_addr=f"+2782{self._count % SENDERS:07}",
                content=name,
                transport_name=self._connector,
                transport_type="sms",
                message_id=name,
            ).to_json()
        if not self._message_ids:
            return None
        user_message_id = self._message_ids[-1 - self._count % len(self._message_ids)]
        return Event(
            user_message_id=user_message_id, event_type="ack", sent_message_id=name, event_id=name
        ).to_json()

    def close(self) -> None:
        if self._channel is not None:
            with suppress(AMQPError, OSError):
                self._channel.connection.close()
