"""The simulated phone and transport, on a real broker and over sockets."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tools.demo.phone import MAX_LINE
from tools.servers.process import ROOT
from tools.servers.rabbitmq import RabbitNode

USER_MESSAGE_KEYS = (
    "to_addr from_addr transport_name transport_type message_version message_type timestamp routing_metadata "
    "helper_metadata message_id in_reply_to provider session_event content transport_metadata group "
    "to_addr_type from_addr_type"
)
EVENT_KEYS = (
    "user_message_id event_id event_type message_version message_type timestamp routing_metadata "
    "helper_metadata transport_metadata sent_message_id nack_reason delivery_status"
)


class Phone:
    """A phone in a process of its own, and what its AMQP peer would see."""

    def __init__(self, node: RabbitNode, channel: BlockingChannel, connector: str, *flags: str) -> None:
        self.connector = connector
        self.channel = channel
        command = [sys.executable, "-m", "tools.demo.phone", "--port", "0", "--amqp-url", node.url]
        self.process = subprocess.Popen(
            [*command, "--connector", connector, *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        found = re.search(r":(\d+),", self.line_with("listening on"))
        assert found
        self.port = int(found[1])
        self.line_with("connected to the broker")

    def line_with(self, text: str) -> str:
        """The next line that it prints with ``text`` in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            assert line.startswith("phone | ")
            if text in line:
                return line
        raise AssertionError(f"it ended without a line with {text}")

    def terminal(self) -> Terminal:
        """One more person at the phone."""
        return Terminal(self.port)

    def get(self, kind: str) -> dict[str, Any]:
        """The next message on the connector's queue."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            _, properties, body = self.channel.basic_get(f"{self.connector}.{kind}", auto_ack=True)
            if body is not None:
                assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
                fields: dict[str, Any] = json.loads(body)
                return fields
            time.sleep(0.02)
        raise AssertionError(f"nothing on {kind}")

    def send(self, content: str | None, **fields: Any) -> str:
        """Publish an outbound message as an application does; its id."""
        message_id = uuid.uuid4().hex
        message = {"message_id": message_id, "to_addr": "+27820000001", "content": content, **fields}
        self.publish(json.dumps(message).encode())
        return message_id

    def publish(self, body: bytes) -> None:
        """Publish anything for the phone."""
        self.channel.basic_publish("vumi", f"{self.connector}.outbound", body, pika.BasicProperties())


class Terminal:
    """A telnet."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        # Little is kept for a terminal that doesn't read.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")
        self.greeting = self.line()

    def type(self, text: str) -> None:
        """Type a line."""
        self.socket.sendall(text.encode() + b"\r\n")

    def line(self) -> str:
        """The next line that appears; empty at the end of the connection."""
        return self._file.readline().decode().rstrip("\r\n")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()


@pytest.fixture
def start(
    rabbitmq: RabbitNode, pika_channel: BlockingChannel, connector_name: str
) -> Iterator[Callable[..., Phone]]:
    """Starts the phone."""
    running: list[Phone] = []

    def make(*flags: str) -> Phone:
        running.append(Phone(rabbitmq, pika_channel, connector_name, *flags))
        return running[-1]

    yield make
    for phone in running:
        phone.process.terminate()
        phone.process.communicate(timeout=10)


def test_a_line_is_an_inbound_message(start: Callable[..., Phone]) -> None:
    """A line typed is published as a user message with vumi's 18 keys."""
    phone = start("--from-addr", "+1", "--to-addr", "*2#")
    terminal = phone.terminal()
    assert "+1" in terminal.greeting
    terminal.type("héllo")
    message = phone.get("inbound")
    assert set(message) == set(USER_MESSAGE_KEYS.split())
    assert message["content"] == "héllo"
    assert (message["from_addr"], message["to_addr"]) == ("+1", "*2#")
    assert (message["transport_name"], message["transport_type"]) == (phone.connector, "ussd")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", message["timestamp"])


def test_a_ussd_session(start: Callable[..., Phone]) -> None:
    """The first line opens a session, the next resumes it; a message that closes it makes the next a new one."""
    phone = start()
    terminal = phone.terminal()
    terminal.type("*120#")
    terminal.type("1")
    assert [phone.get("inbound")["session_event"] for _ in range(2)] == ["new", "resume"]
    phone.send("Bye", session_event="close")
    assert terminal.line() == "[+27820000001] Bye"
    terminal.type("*120#")
    assert phone.get("inbound")["session_event"] == "new"
    terminal.close()
    hung_up = phone.get("inbound")
    assert (hung_up["session_event"], hung_up["content"]) == ("close", None)


def test_an_sms_has_no_session(start: Callable[..., Phone]) -> None:
    """With --transport-type sms nothing has a session event, and hanging up sends nothing."""
    phone = start("--transport-type", "sms")
    terminal = phone.terminal()
    terminal.type("one")
    first = phone.get("inbound")
    assert (first["transport_type"], first["session_event"]) == ("sms", None)
    terminal.close()
    other = phone.terminal()
    other.type("two")
    assert phone.get("inbound")["content"] == "two"


def test_an_outbound_message(start: Callable[..., Phone]) -> None:
    """An outbound message appears on every terminal, then come an ack and a delivery report of vumi's keys."""
    phone = start()
    terminals = [phone.terminal(), phone.terminal()]
    message_id = phone.send("Hi\nthere \x1b[2J")
    for terminal in terminals:
        assert [terminal.line(), terminal.line()] == ["[+27820000001] Hi", "there  [2J"]
    ack, report = phone.get("event"), phone.get("event")
    assert set(ack) == set(report) == set(EVENT_KEYS.split())
    assert {ack["user_message_id"], report["user_message_id"]} == {message_id}
    assert (ack["event_type"], ack["sent_message_id"]) == ("ack", message_id)
    assert (report["event_type"], report["delivery_status"]) == ("delivery_report", "delivered")
    assert report["sent_message_id"] is None


def test_other_outcomes(start: Callable[..., Phone]) -> None:
    """With --outcome nack the answer is a nack with its reason, and nothing more."""
    phone = start("--outcome", "nack")
    first, second = phone.send("1"), phone.send("2")
    events = [phone.get("event"), phone.get("event")]
    assert [event["user_message_id"] for event in events] == [first, second]
    assert {event["event_type"] for event in events} == {"nack"}
    assert all(event["nack_reason"] for event in events)


def test_another_number(start: Callable[..., Phone]) -> None:
    """A terminal that says /from is another phone."""
    phone = start()
    terminal = phone.terminal()
    terminal.type("/from +9")
    assert terminal.line() == "This is +9."
    terminal.type("hi")
    assert phone.get("inbound")["from_addr"] == "+9"


def test_another_outcome(start: Callable[..., Phone]) -> None:
    """A terminal that says /outcome changes the fate of the messages that come from then on."""
    phone = start()
    terminal = phone.terminal()
    terminal.type("/outcome nack")
    assert terminal.line() == "The outcome of messages is nack."
    phone.send("1")
    assert phone.get("event")["event_type"] == "nack"
    terminal.type("/outcome lost")
    assert terminal.line().startswith("[")
    assert terminal.line() == "The outcome of messages is nack."


def test_its_name(start: Callable[..., Phone]) -> None:
    """With --name its lines tell it from another phone."""
    command = [sys.executable, "-m", "tools.demo.phone", "--name", "second", "--port", str(start().port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)
    assert done.stderr.startswith("second | can't listen on")


def test_what_it_cannot_read(start: Callable[..., Phone]) -> None:
    """An outbound message that can't be read is left out; the next one is served."""
    phone = start()
    for body in (b"\xff", b"[]", b"{}", b"7"):
        phone.publish(body)
    message_id = phone.send("after")
    assert phone.get("event")["user_message_id"] == message_id


def test_clients_that_do_harm_delay_nobody(start: Callable[..., Phone]) -> None:
    """A terminal that reads nothing is dropped, one that sends an endless line too; others are served."""
    phone = start()
    deaf, flood, good = phone.terminal(), phone.terminal(), phone.terminal()
    flood.socket.sendall(b"x" * 3 * MAX_LINE)
    phone.line_with("closed a terminal: a line of more than")
    for _ in range(64):
        phone.send("y" * 100_000)
        assert good.line() == "[+27820000001] " + "y" * 100_000
    phone.line_with("closed a terminal that doesn't read")
    good.type("still here")
    assert phone.get("inbound")["content"] == "still here"
    deaf.close()


def test_the_broker_comes_back(start: Callable[..., Phone], rabbitmq: RabbitNode) -> None:
    """After the broker was away the phone is served again, and what was typed meanwhile is sent; there is one line
    for the outage."""
    phone = start()
    terminal = phone.terminal()
    rabbitmq.stop_app()
    terminal.type("meanwhile")
    phone.line_with("no broker")
    # The phone tries again each second meanwhile.
    rabbitmq.start_app()
    assert "connected to the broker" in phone.line_with("broker")
    phone.channel = pika.BlockingConnection(pika.URLParameters(rabbitmq.url)).channel()
    assert phone.get("inbound")["content"] == "meanwhile"
    phone.send("back")
    assert terminal.line() == "[+27820000001] back"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops(start: Callable[..., Phone], number: signal.Signals) -> None:
    """It ends at a signal with status 0 and no traceback, terminals or not."""
    phone = start()
    phone.terminal()
    phone.process.send_signal(number)
    out, _ = phone.process.communicate(timeout=10)
    assert phone.process.returncode == 0
    assert "Traceback" not in out
