"""Destinations that don't play by the rules, in threads of the test, and a bystander that measures what others wait."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.messages.vumi import Event, Message
from tests.support.hostile import JUNEBUG, HostileDaemon
from tests.support.threaded_server import ThreadedServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Destination(ThreadedServer):
    """An HTTP server.

    :param answer: answers one request on its connection; it has the path and the id of the message or event
    :param everywhere: at all addresses of the loopback interface, each of which is another host, and at no other
    """

    def __init__(
        self, answer: Callable[[socket.socket, str, str], None], *, everywhere: bool = False
    ) -> None:
        listener = socket.socket()
        if everywhere:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        listener.bind(("" if everywhere else "127.0.0.1", 0))
        listener.listen(128)
        super().__init__(listener)
        self._answer = answer
        self.url = f"http://127.0.0.1:{self.port}/"

    def serve(self, connection: socket.socket) -> None:
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            head, end, body = received.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            if end and len(body) >= int(headers["content-length"]):
                received = b""
                self._answer(connection, first.split(" ")[1], headers["webhook-id"])


@define
class Bystander:
    """A destination of the configuration that fares well, and how long what is for it takes."""

    sent: dict[str, float] = field(factory=dict)
    waited: dict[str, float] = field(factory=dict)

    def answer(self, connection: socket.socket, path: str, id: str) -> None:
        """Answer 200, but 503 for the path of a client."""
        if path.startswith("/theirs"):
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        if id in self.sent:
            self.waited.setdefault(id, time.monotonic() - self.sent[id])
        connection.sendall(OK)

    def longest(self, channel: BlockingChannel, name: str, *, seconds: float = 2.0) -> float:
        """Send inbound messages and events of others, ten a second of each; the longest time that one took."""
        self.sent.clear()
        self.waited.clear()
        for _ in range(round(seconds * 10)):
            message = Message(to_addr="8110", from_addr="+27", transport_name=name, transport_type="sms")
            event = Event(user_message_id="somebody-else-s", event_type="ack")
            for kind, id, item in (
                ("inbound", message.message_id, message),
                ("event", event.event_id, event),
            ):
                self.sent[id] = time.monotonic()
                channel.basic_publish("vumi", f"{name}.{kind}", item.to_json())
            time.sleep(0.1)
        end = time.monotonic() + 60
        while len(self.waited) < len(self.sent):
            assert time.monotonic() < end, (
                f"{len(self.sent) - len(self.waited)} of {len(self.sent)} did not come"
            )
            time.sleep(0.05)
        return max(self.waited.values())


def send_events(daemon: HostileDaemon, channel: BlockingChannel, urls: list[str]) -> None:
    """Send a message with each event_url, and then an event of each."""
    ids = []
    with daemon.client() as client:
        for url in urls:
            body: Any = {"to": "+27123", "content": "c", "event_url": url}
            status, answer = client.post(JUNEBUG, json.dumps(body).encode())
            assert status == 201, answer
            ids.append(answer["result"]["message_id"])
    for id in ids:
        event = Event(user_message_id=id, event_type="ack")
        channel.basic_publish("vumi", f"{daemon.name}.event", event.to_json())
