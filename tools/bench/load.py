"""Load of the benchmark: wrk, an HTTP client with a fixed rate, and a transport that publishes and consumes."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika

from tools.bench.processes import BenchError, NoWrk
from tools.bench.stolen import Timed
from tools.servers.installed import ensure_installed
from tools.servers.process import HOST, ProcessError
from tools.servers.rabbitmq import RabbitNode

WRK_CONNECTIONS = 50
WARM_UP = 0.5  # seconds of a fixed rate, before it is measured


def ensure_wrk() -> None:
    """Have wrk installed if it is missing.

    :raises NoWrk: it can't
    """
    try:
        ensure_installed("wrk")
    except ProcessError as error:
        raise NoWrk(f"{error}, and without it there is no load: see docs/performance.md") from None


def wrk(*urls: str, requests: Path, seconds: int, connections: int = WRK_CONNECTIONS) -> list[dict[str, Any]]:
    """POST the lines of ``requests`` as fast as they are answered, to all of ``urls`` at once.

    :returns: for each URL ``requests``, ``seconds``, ``errors``, and ``p50`` and ``p99`` in milliseconds
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10s"]
    script = ["-s", str(Path(__file__).with_name("wrk.lua"))]
    running = [
        subprocess.Popen(
            [*command, *script, url, "--", str(requests)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for url in urls
    ]
    results = []
    for process in running:
        output, errors = process.communicate()
        if process.returncode:
            raise BenchError(f"wrk failed: {errors.decode('utf-8', 'replace')}")
        result = json.loads(output.splitlines()[-1])
        if result["errors"]:
            raise BenchError(f"{result['errors']} of wrk's requests failed")
        results.append(result)
    return results


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` (0 to 1) of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class _Client(asyncio.Protocol):
    """A connection with at most one request under way."""

    transport: asyncio.Transport

    def __init__(self, idle: list[_Client]) -> None:
        self._idle = idle
        self._unread = b""
        self._lost = False
        self.answered: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, end, body = self._unread.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        if len(body) < length or self.answered is None:
            return
        self._unread = b""
        self._idle.append(self)
        self.answered.set_result(head.startswith(b"HTTP/1.1 2"))
        self.answered = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self.answered is not None:
            self.answered.set_result(False)

    def ask(self, request: bytes) -> asyncio.Future[bool]:
        """Send a request; whether it is answered with success."""
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # A server that has too many connections says so before it is asked.
        if self._lost or self._unread:
            answered.set_result(False)
        else:
            self.answered = answered
            self.transport.write(request)
        return answered


async def send_at_rate(url: str, bodies: Sequence[bytes], rate: float, seconds: float) -> list[Timed]:
    """POST the bodies in turn, ``rate`` in a second; each request is timed from when it was due."""
    parts = urlsplit(url)
    host, port = parts.hostname or HOST, parts.port or 80
    loop = asyncio.get_running_loop()
    idle: list[_Client] = []
    timed: list[Timed] = []
    failed = 0
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"

    async def one(due: float, line: bytes) -> None:
        nonlocal failed
        signature, _, body = line.rpartition(b"\t")
        if idle:
            client = idle.pop()
        else:
            _, client = await loop.create_connection(lambda: _Client(idle), host, port)
        signed = b"X-Turn-Hook-Signature: " + signature + b"\r\n" if signature else b""
        if not await client.ask(head.encode() + signed + b"Content-Length: %d\r\n\r\n" % len(body) + body):
            failed += 1
        # From the time at which it was due: a request that a slow answer delayed counts too.
        timed.append(Timed(due, time.perf_counter() - due))

    tasks = []
    start = time.perf_counter() + 0.05
    for number in range(int(rate * (WARM_UP + seconds))):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(due, bodies[number % len(bodies)])))
    await asyncio.gather(*tasks)
    for client in idle:
        client.transport.close()
    if failed:
        raise BenchError(f"{failed} of {len(tasks)} requests failed")
    return sorted(timed, key=lambda each: each.due)[int(rate * WARM_UP) :]


def at_rate(url: str, requests: Path, rate: float, seconds: float) -> list[Timed]:
    """POST at a fixed rate, however long the answers take.

    :returns: the requests; those of ``WARM_UP`` before them are left out
    """
    # A pause of this process would count as one of the server's.
    gc.collect()
    gc.disable()
    try:
        return asyncio.run(send_at_rate(url, requests.read_bytes().splitlines(), rate, seconds))
    finally:
        gc.enable()


class Transport:
    """The other side of the daemon's queues."""

    def __init__(self, node: RabbitNode, connector: str) -> None:
        self._connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                node.host,
                node.port,
                node.vhost,
                pika.PlainCredentials(node.username, node.password),
                heartbeat=0,
            )
        )
        self._channel = self._connection.channel()
        self._connector = connector

    def publish(self, queue: str, bodies: Iterable[bytes]) -> None:
        """Put persistent messages into a queue of the connector."""
        properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
        for body in bodies:
            self._channel.basic_publish("", f"{self._connector}.{queue}", body, properties)

    def publish_at_rate(self, queue: str, bodies: Sequence[bytes], rate: float) -> list[float]:
        """The same at a fixed rate; returns ``time.time()`` of each."""
        times, start = [], time.time()
        for number, body in enumerate(bodies):
            if (wait := start + number / rate - time.time()) > 0:
                time.sleep(wait)
            times.append(time.time())
            self.publish(queue, [body])
        return times

    def message_ids(self, count: int) -> list[str]:
        """Take outbound messages, and then empty their queue; the ids of the newest ``count``."""
        queue = f"{self._connector}.outbound"
        there = self._channel.queue_declare(queue, passive=True).method.message_count
        ids: list[str] = []
        for method, _, body in self._channel.consume(queue, auto_ack=True, inactivity_timeout=1):
            if method is None:
                break
            ids.append(json.loads(body)["message_id"])
            if len(ids) >= there:
                break
        self._channel.cancel()
        if len(ids) < count:
            raise BenchError(f"only {len(ids)} messages came to the transport")
        return ids[-count:]

    def purge(self, queue: str) -> None:
        """Empty a queue of the connector."""
        self._channel.queue_purge(f"{self._connector}.{queue}")

    def declare(self, queue: str) -> None:
        """See that a queue is there."""
        self._channel.queue_declare(f"{self._connector}.{queue}", durable=True)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
