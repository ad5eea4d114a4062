"""A daemon with channels that are made at run time, its store, and Junebug's HTTP API as its clients use it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor as _reactor

from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.service import Daemon
from junebug_turn.daemon.settings import Settings, explain
from junebug_turn.messages.vumi import Message
from tests.support.daemon import Answered, Running, until
from tests.support.leaks import LEAKS
from tests.support.store_harness import redis_server
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

reactor: Any = _reactor


class Junebug(Running):
    """A running daemon with a store of channels.

    :ivar base: the path before ``/channels``
    """

    def __init__(self, daemon: Daemon, receiver: Receiver, channel: BlockingChannel, base: str) -> None:
        super().__init__(daemon, "", receiver, channel, base)
        self.base = base

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answered:
        """A request to the API, with a body as JSON where one is given."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request(method, f"{self.base}{path}", data, **options)

    async def create(self, **properties: Any) -> str:
        """Make a channel; returns its id."""
        body = {"type": "telnet", "config": {"twisted_endpoint": "tcp:0"}, **properties}
        answer = await self.call("POST", "/channels/", body)
        assert answer.status == 201, answer
        return str(answer.body["result"]["id"])

    def of(self, channel: str) -> Running:
        """The AMQP side of a channel."""
        path = f"{self.base}/channels/{channel}"
        return Running(self.daemon, channel, self.receiver, self.channel, path)


RunJunebug = Callable[..., AbstractAsyncContextManager[Junebug]]


def redis_options(prefix: str | None = None) -> dict[str, Any]:
    """The options of a store in the Redis of the test run, of its own or with other daemons."""
    return {
        "channels_store": "redis",
        "channels_url": redis_server().url,
        "channels_key_prefix": prefix or uuid.uuid4().hex,
    }


def settings(node: RabbitNode, vhost: str, **options: Any) -> Settings:
    """The settings of a daemon with a store of channels."""
    values: dict[str, Any] = {
        "http_bind": "127.0.0.1:0",
        "amqp_hostname": node.host,
        "amqp_port": node.port,
        "amqp_username": node.username,
        "amqp_password": node.password,
        "amqp_vhost": vhost,
        "shutdown_timeout": 5,
        "channels_defaults": {"retry_delay_base": 0},
        **options,
    }
    flags = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    explained = explain(flags, {})
    assert explained.settings is not None, explained.faults
    LEAKS.secrets_of(explained)
    return explained.settings


def made(node: RabbitNode, vhost: str, **options: Any) -> Daemon:
    """A daemon that is not started."""
    return make_daemon(reactor, settings(node, vhost, **options))


@asynccontextmanager
async def running(
    node: RabbitNode, vhost: str, channel: BlockingChannel, receiver: Receiver, **options: Any
) -> AsyncIterator[Junebug]:
    """A daemon with a store of channels, connected; stopped at the end."""
    daemon = made(node, vhost, **options)
    daemon.privilegedStartService()
    daemon.startService()
    side = Junebug(daemon, receiver, channel, str(options.get("channels_base_path", "")))
    try:
        await until(lambda: daemon.ready and daemon.broker.connected and side.live(), "the daemon", 120)
        yield side
    finally:
        if daemon.running:
            await daemon.stopService()


def inbound(channel: str, number: int = 1, **fields: Any) -> Message:
    """A message from a phone, as a channel's transport publishes it."""
    values: dict[str, Any] = {
        "to_addr": "8110",
        "from_addr": f"+27{number:06}",
        "transport_name": channel,
        "transport_type": "sms",
        "content": str(number),
    }
    return Message(**(values | fields))
