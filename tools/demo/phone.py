"""A simulated phone and the transport that serves it, in one program.

On the AMQP side it is a vumi transport: it consumes ``{connector}.outbound``, answers each message with an ack and
a delivery report on ``{connector}.event``, and publishes what the phone's user types on ``{connector}.inbound``.
On the other side is a TCP port, where each line is a message from the phone and each message to it appears:
``telnet`` or ``nc`` is the phone.  It shares no code with the daemon: what it reads and writes is vumi's format.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import queue
import re
import signal
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

MAX_LINE = 4096  # bytes
MAX_CLIENTS = 50
MAX_UNREAD = 256 * 1024  # bytes that a client may leave unread
MAX_SHOWN = 400  # characters of a message in a line of output
MAX_WAITING = 1000  # lines typed while the broker is away
# What a telnet client says about the terminal, and an answer to it, are no text.
_TELNET = re.compile(rb"\xff\xfa.*?\xff\xf0|\xff[\xfb-\xfe].|\xff[\xf0-\xf9\xff]", re.DOTALL)


_saying = threading.Lock()


def say(name: str, text: str) -> None:
    """One line for whoever looks on."""
    with _saying:
        print(f"{name} | {text}", flush=True)


def timestamp() -> str:
    """Now, as vumi writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def event(message: dict[str, Any], event_type: str, **fields: str) -> dict[str, Any]:
    """An event of vumi about ``message``."""
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
    """The events that a transport sends for ``message`` when ``outcome`` is what becomes of it."""
    if outcome == "nack":
        return [event(message, "nack", nack_reason="the simulated network refused it")]
    acked = event(message, "ack", sent_message_id=message["message_id"])
    return [acked, event(message, "delivery_report", delivery_status=outcome)]


class Sessions:
    """Which addresses are within a USSD session; other transport types have no sessions.

    The user's first line opens one, further lines resume it, a message that closes it (or hanging up) ends it.
    """

    def __init__(self, transport_type: str) -> None:
        self._has_sessions = transport_type == "ussd"
        self._open: set[str] = set()

    def typed(self, address: str) -> str | None:
        """The session event of a line typed."""
        if not self._has_sessions:
            return None
        session_event = "resume" if address in self._open else "new"
        self._open.add(address)
        return session_event

    def ended(self, address: str) -> bool:
        """End the session; whether there was one."""
        was_open = address in self._open
        self._open.discard(address)
        return was_open


class Transport(threading.Thread):
    """The AMQP side, in a thread of its own because pika's simple client blocks; it reconnects for ever.

    :param options: of the command line
    :param on_outbound: is called, in this thread, with each message for the phone
    """

    def __init__(self, options: argparse.Namespace, on_outbound: Any) -> None:
        super().__init__(daemon=True)
        self._parameters = pika.URLParameters(options.amqp_url)
        self._connector = options.connector
        self._outcome = options.outcome
        self._say = partial(say, options.name)
        self._on_outbound = on_outbound
        self._typed: queue.Queue[dict[str, Any]] = queue.Queue(MAX_WAITING)
        self._unsent: dict[str, Any] | None = None

    def send(self, message: dict[str, Any]) -> bool:
        """Publish an inbound message, when the broker is there; False when too many wait already."""
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
                self._say(f"no broker ({type(error).__name__}), trying again")
                time.sleep(1)

    def _serve(self, channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        channel.exchange_declare("vumi", "direct", durable=True)
        for kind in ("inbound", "event", "outbound"):
            name = f"{self._connector}.{kind}"
            channel.queue_declare(name, durable=True)
            channel.queue_bind(name, "vumi", name)
        channel.basic_qos(prefetch_count=20)
        self._say(f"connected to the broker as the transport of {self._connector}")
        for method, _, body in channel.consume(f"{self._connector}.outbound", inactivity_timeout=0.1):
            if method is not None:
                self._outbound(channel, body)
                channel.basic_ack(method.delivery_tag)
            self._publish_typed(channel)

    def _outbound(self, channel: BlockingChannel, body: bytes) -> None:
        try:
            message = json.loads(body)
            events = outcome_events(message, self._outcome)
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


class Phone:
    """The TCP side: any number of terminals, each with the number that it has taken."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._sessions = Sessions(options.transport_type)
        self._terminals: dict[asyncio.StreamWriter, str] = {}
        self._loop = asyncio.get_running_loop()
        self._say = partial(say, options.name)
        self._transport = Transport(
            options, lambda message: self._loop.call_soon_threadsafe(self._show, message)
        )

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, stopped.set)
        host, port = self._options.host, self._options.port
        try:
            server = await asyncio.start_server(self._terminal, host, port, limit=MAX_LINE)
        except OSError as error:
            sys.exit(f"{self._options.name} | can't listen on {host}:{port}: {error.strerror}")
        port = server.sockets[0].getsockname()[1]
        self._say(
            f"listening on {host}:{port}, number {self._options.from_addr}, {self._options.transport_type}"
        )
        self._transport.start()
        await stopped.wait()
        server.close()

    async def _terminal(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._terminals) >= MAX_CLIENTS:
            writer.transport.abort()
            return
        self._terminals[writer] = self._options.from_addr
        self._tell(
            writer,
            f"This is {self._options.from_addr}.  A line is a message to {self._options.to_addr}; "
            "/from NUMBER makes this another phone.",
        )
        try:
            while line := await reader.readline():
                self._typed(writer, _TELNET.sub(b"", line).decode("utf-8", "replace").strip("\r\n\0"))
        except asyncio.CancelledError:
            # The program ends; up to Python 3.12 a handler that is cancelled leaves a traceback.
            pass
        except (ValueError, ConnectionError):
            self._say(f"closed a terminal: a line of more than {MAX_LINE} bytes, or a broken connection")
        finally:
            self._hang_up(writer)

    def _typed(self, writer: asyncio.StreamWriter, text: str) -> None:
        command, _, number = text.partition(" ")
        if command == "/from":
            if number.strip():
                self._terminals[writer] = number.strip()
            self._tell(writer, f"This is {self._terminals[writer]}.")
            return
        address = self._terminals[writer]
        if not self._send(address, text, self._sessions.typed(address)):
            self._tell(writer, "Not sent: the broker is away and too much waits for it.")

    def _send(self, address: str, content: str | None, session_event: str | None) -> bool:
        self._say(f"from {address}: {_quoted(content)}{_session(session_event)}")
        return self._transport.send(
            {
                "to_addr": self._options.to_addr,
                "from_addr": address,
                "transport_name": self._options.connector,
                "transport_type": self._options.transport_type,
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
        )

    def _show(self, message: dict[str, Any]) -> None:
        address, content = message.get("to_addr"), message.get("content")
        session_event = message.get("session_event")
        self._say(f"to {address}: {_quoted(content)}{_session(session_event)}")
        if session_event == "close":
            self._sessions.ended(str(address))
        # Other control characters than the ends of lines could play with the terminal.
        text = re.sub(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]", " ", "" if content is None else str(content))
        for writer in list(self._terminals):
            self._tell(writer, f"[{address}] {text}")

    def _tell(self, writer: asyncio.StreamWriter, text: str) -> None:
        # Nobody waits for a terminal: one that doesn't read is dropped.
        if writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self._say("closed a terminal that doesn't read")
            writer.transport.abort()
        else:
            writer.write(text.replace("\n", "\r\n").encode("utf-8", "replace") + b"\r\n")

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        address = self._terminals.pop(writer)
        writer.close()
        if address not in self._terminals.values() and self._sessions.ended(address):
            self._send(address, None, "close")


def _quoted(content: object) -> str:
    text = json.dumps(content, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"


def _session(session_event: object) -> str:
    return f" (session {session_event})" if session_event else ""


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.phone", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--amqp-url", default="amqp://guest:guest@127.0.0.1:5672/%2F", help="the broker (%(default)s)")
    add("--name", default="phone", help="what its lines begin with (%(default)s)")
    add("--connector", default="demo", help="whose queues it serves (%(default)s)")
    add("--host", default="127.0.0.1", help="where terminals connect (%(default)s)")
    add("--port", type=int, default=8023, help="where terminals connect (%(default)s)")
    add("--from-addr", default="+27820000001", help="the phone's number (%(default)s)")
    add("--to-addr", default="*120*8864#", help="the number that the phone dials or writes to (%(default)s)")
    add("--transport-type", choices=["ussd", "sms"], default="ussd", help="(%(default)s)")
    add(
        "--outcome",
        choices=["delivered", "pending", "failed", "nack"],
        default="delivered",
        help="what becomes of a message to the phone (%(default)s)",
    )
    return parser.parse_args(argv)


async def _main(options: argparse.Namespace) -> None:
    await Phone(options).run()


if __name__ == "__main__":
    # Its lines about a broker that is away would hide the one that says so.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    asyncio.run(_main(arguments(sys.argv[1:])))
    # For good: the interpreter must not end while the thread for the broker is in the middle of a line.
    _saying.acquire()
