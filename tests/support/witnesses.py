"""Clients of the daemon, its broker and its caches that share no code with them, and keep what they see as it is."""

from __future__ import annotations

import hmac
import json
import re
import socket
import sqlite3
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from tests.support.daemon import reactor, until
from tests.support.delayed import is_delayed, take
from tools.servers.rabbitmq import RabbitNode
from tools.servers.redis import RedisServer


def decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return f"hexadecimal {data.hex()}"


# HTTP


async def asked(
    url: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The answer to a request, as it comes through a socket."""
    sent = {"Host": "daemon", "Content-Length": str(len(body))} | dict(headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    request = "\r\n".join(lines).encode() + body
    return await deferToThread(_exchange, urlsplit(url).port or 0, request, method)


def _exchange(port: int, request: bytes, method: str) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = answer.readline()
                assert line, f"the answer ends with {head!r}"
                head += line
            length = 0 if method == "HEAD" else _content_length(head)
            return {"head": head.split(b"\r\n")[:-2], "body": answer.read(length)}


def _content_length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
    assert found is not None, f"no Content-Length: {head!r}"
    return int(found[1])


class Destination(Factory):
    """An HTTP server that keeps requests as they come, and answers 200, or as it is told.

    :param webhook_key: verifies the signatures; one that is right is kept as ``<right>``
    """

    noisy = False

    def __init__(self, webhook_key: bytes = b"") -> None:
        self._key = webhook_key
        self._answers: deque[int] = deque()
        self._port: IListeningPort = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.address = f"127.0.0.1:{self._port.getHost().port}"
        self.requests: list[dict[str, Any]] = []
        self.open: set[_Connection] = set()

    def buildProtocol(self, addr: object) -> _Connection:
        return _Connection(self)

    def url(self, path: str, userinfo: str = "") -> str:
        return f"http://{userinfo}{self.address}{path}"

    def script(self, *statuses: int) -> None:
        """Answer the next requests with these; 0 closes the connection in place of an answer."""
        self._answers.extend(statuses)

    async def received(self, count: int = 1) -> list[dict[str, Any]]:
        """The next requests, as soon as there are so many; they are forgotten here."""
        await until(lambda: len(self.requests) >= count, f"{count} requests")
        taken, self.requests = self.requests[:count], self.requests[count:]
        return taken

    async def stop(self) -> None:
        await maybeDeferred(self._port.stopListening)
        for connection in tuple(self.open):
            connection.transport.abortConnection()
        await until(lambda: not self.open, "the end of all connections")

    def handle(self, head: bytes, body: bytes) -> int:
        """Keep a request; returns the status of its answer."""
        self.requests.append({"head": self._verified(head, body).split(b"\r\n"), "body": body})
        return self._answers.popleft() if self._answers else 200

    def _verified(self, head: bytes, body: bytes) -> bytes:
        pairs = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value for name, value in pairs}
        if not self._key or b"webhook-id" not in headers:
            return head
        signed = b"%s.%s.%s" % (headers[b"webhook-id"], headers[b"webhook-timestamp"], body)
        signature = b64encode(hmac.digest(self._key, signed, "sha256"))
        return head.replace(b"v1," + signature, b"v1,<right>")


class _Connection(Protocol):
    transport: Any

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._data = b""

    def connectionMade(self) -> None:
        self._destination.open.add(self)

    def connectionLost(self, reason: object = None) -> None:
        self._destination.open.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        length = _content_length(head + b"\r\n") if end else 0
        if not end or len(rest) < length:
            return
        self._data = rest[length:]
        status = self._destination.handle(head, rest[:length])
        if status:
            self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)
        else:
            self.transport.loseConnection()


# AMQP


async def taken(channel: BlockingChannel, queue: str) -> dict[str, Any]:
    """The next message of a queue, as soon as there is one, with all that it carries."""
    found: list[Any] = []

    def there() -> bool:
        if is_delayed(queue):
            found[:] = next(iter(take(channel, queue)), [None])
        else:
            found[:] = channel.basic_get(queue, auto_ack=True)
        return found[0] is not None

    await until(there, f"a message in {queue}")
    method, properties, body = found
    return {
        "exchange": method.exchange,
        "routing_key": method.routing_key,
        "properties": {name: _sorted(value) for name, value in vars(properties).items() if value is not None},
        "body": body,
    }


def _sorted(value: Any) -> Any:
    """A table by the order of its names, as RabbitMQ 4 delivers headers; older ones keep the publisher's."""
    return dict(sorted(value.items())) if isinstance(value, dict) else value


def put(channel: BlockingChannel, queue: str, body: bytes, **properties: Any) -> None:
    """Publish as a transport does."""
    channel.basic_publish("vumi", queue, body, pika.BasicProperties(**({"delivery_mode": 2} | properties)))


async def topology(node: RabbitNode, connector: str) -> dict[str, Any]:
    """The exchanges, the connector's queues and those of delayed messages, with their bindings and consumers, as
    rabbitmqctl tells them."""
    # Other tests leave such with other delays.
    shared = {f"junebug-turn.delay.{delay}" for delay in ("1s", "5s", "30s", "5m", "30m", "2h")}
    shared |= {"junebug-turn.deferred", "junebug-turn.unroutable"}

    async def listed(*command: str) -> list[dict[str, Any]]:
        return list(json.loads(await deferToThread(node.ctl, *command, "--formatter", "json")))

    queues = await listed("list_queues", "name", "durable", "auto_delete", "exclusive", "arguments")
    exchanges = await listed(
        "list_exchanges", "name", "type", "durable", "auto_delete", "internal", "arguments"
    )
    bindings = await listed("list_bindings")
    consumers = await listed(
        "list_consumers", "queue_name", "ack_required", "prefetch_count", "active", "arguments"
    )

    for queue in queues:
        # RabbitMQ 4 sorts the arguments, and has the queue's type among them, its virtual host's if nobody named one.
        # Of a quorum queue it doesn't say whether it is exclusive; and ours have two more.
        of_type = ("x-queue-type", "x-overflow", "x-dead-letter-strategy")
        queue["arguments"] = sorted(each for each in queue["arguments"] if each[0] not in of_type)
        queue["exclusive"] = bool(queue["exclusive"])

    def ours(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        return sorted(
            (row for row in rows if row[key].startswith(f"{connector}.") or row[key] in shared),
            key=lambda row: str(row[key]),
        )

    return {
        "exchanges": sorted(
            (row for row in exchanges if row["name"] in ("junebug-turn.return", "vumi")),
            key=lambda row: str(row["name"]),
        ),
        "delay exchanges": ours(exchanges, "name"),
        "queues": ours(queues, "name"),
        # Each queue is bound to the default exchange by the broker itself.
        "bindings": ours([row for row in bindings if row["source_name"]], "destination_name"),
        "consumers": ours(consumers, "queue_name"),
    }


# caches


def redis_entries(server: RedisServer, plain: Callable[[str], str]) -> list[dict[str, Any]]:
    """Every key with its type, value and time to live, sorted by how ``plain`` writes the keys.

    Counters are left out: their keys tell the time, and they come within a second.  So are the steps of messages, which
    tell the time too, and the claims of requests, which live for half a minute.
    """
    entries = []
    for key in server.cli("--scan").splitlines():
        if re.search(r":\d{9}$|:requests:|:steps:", key):
            continue
        kind = server.cli("TYPE", key).strip()
        value: Any = server.cli({"hash": "HGETALL", "string": "GET"}[kind], key).removesuffix("\n")
        if kind == "hash":
            parts = value.split("\n")
            # Redis gives the fields of a larger hash in no order.
            value = dict(sorted(zip(parts[::2], parts[1::2], strict=True)))
        minutes = round(int(server.cli("PTTL", key)) / 60000)
        entries.append({"key": plain(key), "type": kind, "minutes": minutes, "value": value})
    return sorted(entries, key=lambda entry: str(entry["key"]))


def sqlite_contents(path: Path) -> dict[str, Any]:
    """The schema, and every row in the order of storing; the time of expiry in minutes from now.

    Claims and the steps of messages are left out: see ``redis_entries``.
    """
    connection = sqlite3.connect(path)
    try:
        pragmas = ("user_version", "application_id", "journal_mode", "page_size", "auto_vacuum")
        told = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas}
        schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        rows = connection.execute("SELECT * FROM entries WHERE kind NOT IN ('r', 't') ORDER BY kind, rowid")
        names = [column[0] for column in rows.description]
        entries = [dict(zip(names, row, strict=True)) for row in rows]
    finally:
        connection.close()
    for entry in entries:
        entry |= {name: _packed(entry[name]) for name in ("key", "value")}
        entry["expires"] = f"in {(entry['expires'] - time.time()) / 60:.0f} minutes"
    return {"pragmas": told, "schema": schema, "entries": entries}


def _packed(value: Any) -> str:
    """A blob that can be read: an id's bytes as its digits, after the byte before them."""
    assert isinstance(value, bytes)
    return f"00 {value[1:].hex()}" if len(value) == 17 and value[0] == 0 else decoded(value)
