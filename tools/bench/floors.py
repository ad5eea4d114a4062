"""Floors of the benchmark: the cost of each library by itself, in a process of its own.

``python -m tools.bench.floors klein PORT`` serves until it is ended; ``publish``, ``consume`` and ``treq`` print, after
some messages that warm them up, one line of JSON: ``messages``, ``seconds``, ``cpu`` (seconds of this process); and
``publish-at-rate`` also ``timed``: when each message was due, and how long from then its confirm took.
Tested whole by ``make bench-quick``.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from klein import Klein
from treq.client import HTTPClient
from treq.content import content
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.task import deferLater, react
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.server import Site
from txamqp.client import TwistedDelegate
from txamqp.content import Content
from txamqp.protocol import AMQClient

from junebug_turn.amqp import frames
from tools.bench.messages import inbound_body

reactor: Any = _reactor
CONNECTIONS = 50  # requests, and publishes, under way at once
PREFETCH = 20  # deliveries under way at once, as the daemon has by default
WARM_UP = 300


def klein(port: int) -> None:
    """A route that parses JSON and answers 201; no access log, as the daemon writes none either."""
    app = Klein()

    @app.route("/messages", methods=["POST"])
    def messages(request: Any) -> bytes:
        body = json.loads(request.content.read())
        request.setResponseCode(201)
        request.setHeader("Content-Type", "application/json")
        answer = json.dumps({"to": body["to"]}).encode()
        # Otherwise it would be sent in chunks.
        request.setHeader("Content-Length", str(len(answer)))
        return answer

    site: Any = Site(app.resource())
    site.noisy = False
    site.log = lambda request: None
    reactor.listenTCP(port, site, interface="127.0.0.1")
    reactor.run()


async def measure(count: int, width: int, one: Callable[[int], Awaitable[Any]]) -> None:
    """Do ``one`` so many times, ``width`` at once, and print the time and processor time of that."""

    async def some(numbers: range) -> None:
        for number in numbers:
            await one(number)

    async def all_of(start: int, stop: int) -> None:
        await gatherResults(
            [Deferred.fromCoroutine(some(range(start + at, stop, width))) for at in range(width)]
        )

    await all_of(0, WARM_UP)
    since, cpu = time.perf_counter(), time.process_time()
    await all_of(WARM_UP, WARM_UP + count)
    report(count, since, cpu)


def report(count: int, since: float, cpu: float, **more: Any) -> None:
    """Print the line of JSON."""
    seconds, used = time.perf_counter() - since, time.process_time() - cpu
    print(json.dumps({"messages": count, "seconds": seconds, "cpu": used} | more), flush=True)


class Confirms(TwistedDelegate):  # type: ignore[misc]
    """Publisher confirms, which txamqp lacks: it takes the broker's basic.ack for an error."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, Deferred[None]] = {}

    def basic_ack(self, channel: Any, message: Any) -> None:
        tags = [message.delivery_tag]
        if message.multiple:
            tags = [tag for tag in self.waiting if tag <= message.delivery_tag]
        for tag in tags:
            self.waiting.pop(tag).callback(None)


async def amqp(port: int) -> tuple[AMQClient, Any]:
    """Log in; the client, and a channel of it."""
    client = AMQClient(Confirms(), "/", frames.specification(), heartbeat=0)
    await connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", port), client)
    await client.authenticate("guest", "guest", mechanism="PLAIN")
    channel = await client.channel(1)
    await channel.channel_open()
    return client, channel


async def publisher(port: int, queue: str) -> Callable[[int], Awaitable[None]]:
    """Make a function that publishes a persistent message and waits for its confirm."""
    client, channel = await amqp(port)
    await channel.queue_declare(queue=queue, durable=True)
    await channel.confirm_select()
    waiting, published = client.delegate.waiting, 0
    body = inbound_body("0" * 32)

    async def one(_: int) -> None:
        nonlocal published
        published += 1
        confirmed: Deferred[None] = Deferred()
        waiting[published] = confirmed
        message = Content(body, properties={"delivery mode": 2, "content type": "application/json"})
        await channel.basic_publish(exchange="", routing_key=queue, content=message)
        await confirmed

    return one


async def publish(port: int, queue: str, count: int) -> None:
    """Publish as fast as the confirms come."""
    await measure(count, CONNECTIONS, await publisher(port, queue))


async def publish_at_rate(port: int, queue: str, count: int, rate: float) -> None:
    """Publish at a fixed rate, however long the confirms take."""
    one = await publisher(port, queue)
    timed: list[tuple[float, float]] = []

    async def at(due: float) -> None:
        await one(0)
        timed.append((due, time.perf_counter() - due))

    sent = []
    # A pause for the collector would count as one of the broker's.
    gc.disable()
    start = time.perf_counter()
    for number in range(-WARM_UP, count):
        if number == 0:
            since, cpu = time.perf_counter(), time.process_time()
        due = start + (number + WARM_UP) / rate
        if (wait := due - time.perf_counter()) > 0:
            await deferLater(reactor, wait)
        sent.append(Deferred.fromCoroutine(at(due)))
    await gatherResults(sent)
    report(count, since, cpu, timed=sorted(timed)[WARM_UP:])


async def consume(port: int, queue: str, count: int) -> None:
    """Take messages from a full queue and ack each."""
    client, channel = await amqp(port)
    await channel.basic_qos(prefetch_count=PREFETCH)
    deliveries = await client.queue("bench")
    await channel.basic_consume(queue=queue, consumer_tag="bench")

    async def one(_: int) -> None:
        message = await deliveries.get()
        await channel.basic_ack(delivery_tag=message.delivery_tag)

    await measure(count, 1, one)


async def treq(url: str, count: int) -> None:
    """POST to the receiver over persistent connections."""
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = CONNECTIONS
    client = HTTPClient(Agent(reactor, pool=pool))
    headers: dict[str | bytes, str | bytes] = {
        "Content-Type": "application/json",
        "Authorization": "Token bench",
    }
    body = inbound_body("0" * 32)

    async def one(_: int) -> None:
        await content(await client.post(url, data=body, headers=headers))

    await measure(count, PREFETCH, one)
    await pool.closeCachedConnections()


def main(name: str, arguments: Sequence[str]) -> None:
    """Run one floor."""
    if name == "klein":
        klein(int(arguments[0]))
    elif name == "treq":
        react(lambda _: Deferred.fromCoroutine(treq(arguments[0], int(arguments[1]))))
    else:
        work: Any = {"publish": publish, "publish-at-rate": publish_at_rate, "consume": consume}[name]
        port, queue, count, *rate = arguments
        react(lambda _: Deferred.fromCoroutine(work(int(port), queue, int(count), *map(float, rate))))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
