"""The whole daemon in this process, with a receiver and an independent witness of its queues at its sides."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import pika
import treq
from attrs import frozen
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread

from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.service import Daemon
from junebug_turn.daemon.settings import Settings, explain
from junebug_turn.messages.vumi import Event, Message
from tests.support import delayed
from tests.support.leaks import LEAKS
from tests.support.patience import PATIENCE
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

reactor: Any = _reactor

T = TypeVar("T")


async def until(condition: Callable[[], Any], what: str = "it", limit: float = 60) -> None:
    """Wait until ``condition()`` is true."""
    end = time.monotonic() + limit * PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {limit} s in vain for {what}"
        await deferLater(reactor, 0.02)


async def taken(channel: BlockingChannel, queue: str) -> Any:
    """The next message of a queue, as JSON, as soon as there is one."""
    found: list[bytes] = []

    def look() -> bool:
        body = channel.basic_get(queue, auto_ack=True)[2]
        found.extend([] if body is None else [body])
        return bool(found)

    await until(look, queue)
    return json.loads(found[0])


def in_reactor(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which runs in the reactor; for a thread, as hypothesis' tests need one."""
    return cast(T, blockingCallFromThread(reactor, Deferred.fromCoroutine, work))


@frozen
class Answered:
    """An HTTP answer; ``body`` is its JSON, None where there is none."""

    status: int
    body: Any
    headers: dict[str, str]


class Running:
    """A running daemon.

    :ivar receiver: where its HTTP destinations are, unless a test names others
    :ivar port: the port of its first address
    """

    def __init__(
        self, daemon: Daemon, connector: str, receiver: Receiver, channel: BlockingChannel, path: str
    ) -> None:
        self.daemon = daemon
        self.connector = connector
        self.receiver = receiver
        self.channel = channel
        self.path = path
        self.port: int = cast(Any, daemon.addresses[0]).port
        self.url = f"http://127.0.0.1:{self.port}"

    # the HTTP side

    async def request(self, method: str, path: str, data: bytes | None = None, **options: Any) -> Answered:
        response = await treq.request(
            method, self.url + path, data=data, persistent=False, timeout=60, **options
        )
        text = await response.text()
        headers = {
            name.decode().lower(): values[0].decode() for name, values in response.headers.getAllRawHeaders()
        }
        LEAKS.search("an answer", f"{headers} {text}")
        return Answered(response.code, json.loads(text) if text else None, headers)

    async def post(self, body: Any, **options: Any) -> Answered:
        """POST ``body``, bytes or else as JSON, to the application's messages."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request("POST", f"{self.path}/messages", data, **options)

    # the AMQP side

    def publish(self, kind: str, body: Message | Event | bytes) -> None:
        """Put something into the connector's ``inbound`` or ``event`` queue, as a transport does."""
        data = body if isinstance(body, bytes) else body.to_json()
        self.channel.basic_publish(
            "vumi", f"{self.connector}.{kind}", data, pika.BasicProperties(delivery_mode=2)
        )

    def count(self, kind: str) -> int:
        if delayed.is_delayed(kind):
            return len(delayed.look(self.channel, f"{self.connector}.{kind}"))
        return int(self.channel.queue_declare(f"{self.connector}.{kind}", passive=True).method.message_count)

    def take(self, kind: str) -> tuple[pika.BasicProperties, bytes] | None:
        """The next message of a queue, with its properties."""
        if delayed.is_delayed(kind):
            return next((found[1:] for found in delayed.take(self.channel, f"{self.connector}.{kind}")), None)
        method, properties, body = self.channel.basic_get(f"{self.connector}.{kind}", auto_ack=True)
        return None if method is None else (properties, body)

    async def taken(self, kind: str) -> tuple[pika.BasicProperties, bytes]:
        """The next message of a queue, as soon as there is one."""
        await until(lambda: self.count(kind), f"a message in {kind}")
        found = self.take(kind)
        assert found is not None
        return found

    async def outbound(self) -> dict[str, Any]:
        """The JSON of the next outbound message."""
        return dict(json.loads((await self.taken("outbound"))[1]))

    async def handlers_done(self) -> None:
        """Wait until each message that the broker has sent to a consumer is handled."""
        # private: its queue is empty before its counts are complete, so that only the consumer knows.
        consumers = self.daemon.broker._consumers
        for each in list(consumers):
            if (channel := each.channel) is not None:
                # Its answer comes after the messages that are on their way.
                await channel.client.call(channel.queue_declare(queue=each.name, passive=True))
        # private: see above.
        await until(lambda: not any(each._handling for each in consumers), "the end of the handlers")

    def live(self) -> bool:
        return bool(self.daemon.health()["amqp"]["ok"])


def settings(node: RabbitNode, application: str, **options: Any) -> Settings:
    """The settings of one application on ``node``, through the configuration's own layers."""
    values = {
        "application": application,
        "http_bind": "127.0.0.1:0",
        "amqp_hostname": node.host,
        "amqp_port": node.port,
        "amqp_username": node.username,
        "amqp_password": node.password,
        "shutdown_timeout": 5,
    } | options
    flags = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    explained = explain(flags, {})
    assert explained.settings is not None, explained.faults
    LEAKS.secrets_of(explained)
    return explained.settings


@asynccontextmanager
async def running(
    node: RabbitNode,
    connector: str,
    channel: BlockingChannel,
    receiver: Receiver,
    application: str,
    **options: Any,
) -> AsyncIterator[Running]:
    """A daemon with one application, connected and consuming; stopped at the end."""
    made = settings(node, application, connector_name=connector, **options)
    daemon = make_daemon(reactor, made)
    daemon.privilegedStartService()
    daemon.startService()
    side = Running(daemon, connector, receiver, channel, made.applications[0].path)
    try:
        await until(side.live, "the daemon's consumers")
        yield side
    finally:
        if daemon.running:
            await daemon.stopService()
