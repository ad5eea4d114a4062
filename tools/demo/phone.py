"""Simulated phone of the demo, with the transport that serves it, in one program.

On the AMQP side it is a vumi transport (transport.py): it consumes ``{connector}.outbound``, answers each message with
an ack and a delivery report on ``{connector}.event``, and publishes what the phone's user types on
``{connector}.inbound``.  On the other side is a TCP port, where each line is a message from the phone and each message
to it appears: ``telnet`` or ``nc`` is the phone.  It shares no code with the daemon: what it reads and writes is vumi's
format.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import signal
import sys
from functools import partial
from typing import Any

from tools.demo.transport import OUTCOMES, OUTPUT, Transport, say

MAX_LINE = 4096  # bytes
MAX_CLIENTS = 50
MAX_UNREAD = 256 * 1024  # bytes that a client may leave unread
MAX_SHOWN = 400  # characters of a message in a line of output
# The bytes by which telnet negotiates about the terminal are no text.
_TELNET = re.compile(rb"\xff\xfa.*?\xff\xf0|\xff[\xfb-\xfe].|\xff[\xf0-\xf9\xff]", re.DOTALL)


class Sessions:
    """The addresses that are within a USSD session; other transport types have no sessions.

    The user's first line opens one, further lines resume it, a message that closes it (or hanging up) ends it.
    """

    def __init__(self, transport_type: str) -> None:
        self._has_sessions = transport_type == "ussd"
        self._open: set[str] = set()

    def typed(self, address: str) -> str | None:
        """Note a line typed; its session event."""
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


class Phone:
    """The TCP side: any number of terminals, each with a phone number."""

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
            "/from NUMBER makes this another phone; /outcome nack (or failed, pending, delivered) is the fate of "
            "the next messages to it.",
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
        command, _, argument = text.partition(" ")
        if command == "/from":
            if argument.strip():
                self._terminals[writer] = argument.strip()
            self._tell(writer, f"This is {self._terminals[writer]}.")
            return
        if command == "/outcome":
            if argument.strip() in OUTCOMES:
                self._transport.outcome = argument.strip()
            self._tell(writer, f"The outcome of messages is {self._transport.outcome}.")
            return
        address = self._terminals[writer]
        if not self._send(address, text, self._sessions.typed(address)):
            self._tell(writer, "Not sent: the broker is away and too much waits for it.")

    def _send(self, address: str, content: str | None, session_event: str | None) -> bool:
        self._say(f"from {address}: {_quoted(content)}{_session(session_event)}")
        return self._transport.send(address, content, session_event)

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
    """Parse the command line."""
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
        choices=OUTCOMES,
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
    OUTPUT.acquire()
