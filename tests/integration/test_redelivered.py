"""Messages that the broker hands out again while their receiver is down or slow: the whole daemon."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, capturedLogs

from junebug_turn.messages.vumi import Message
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Running, running, until
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Answer, Received, Receiver

# Without a sender a message has no order to others.
SENDERS = ("+27820000001", "+27820000002", None, None)
OPTIONS = {"retry_delay_base": 1, "max_retries": 100}


class Posts:
    """The POSTs of each message at a receiver: how many came, how many at once, how many were taken with 200."""

    def __init__(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.came: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most_at_once = 0
        self.taken: Counter[str] = Counter()
        self._handle = receiver.handle
        monkeypatch.setattr(receiver, "handle", self.handle)
        monkeypatch.setattr(receiver, "answered", self.answered)

    def handle(self, request: Any, connection: int) -> None:
        message_id = json.load(request.content)["message_id"]
        request.content.seek(0)
        self.came[message_id] += 1
        self.at_once[message_id] += 1
        self.most_at_once = max(self.most_at_once, self.at_once[message_id])
        # With its answer, or when its connection ends.
        request.notifyFinish().addBoth(lambda _: self.at_once.subtract([message_id]))
        self._handle(request, connection)

    def answered(self, request: Received, answer: Answer) -> None:
        if answer.status == 200:
            self.taken[request.json["message_id"]] += 1


@pytest.fixture
def posts(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Posts:
    return Posts(receiver, monkeypatch)


def publish(side: Running) -> Counter[str]:
    """Publish an inbound message of each sender; each one's id, once."""
    messages = [
        Message(to_addr="8110", from_addr=sender, transport_name="t", transport_type="sms", content="c")
        for sender in SENDERS
    ]
    for message in messages:
        side.publish("inbound", message)
    return Counter(message.message_id for message in messages)


async def closed_four_times(node: RabbitNode, side: Running) -> None:
    for _ in range(4):
        # The daemon may be back before rabbitmqctl has ended.
        closing = deferToThread(node.close_connections)
        await until(lambda: not side.live(), "the loss to be seen")
        await closing
        await until(side.live, "the consumers to be back")


async def all_acked(side: Running, node: RabbitNode) -> None:
    """Wait until the broker has no message of the connector, with a consumer or in a queue."""
    await side.handlers_done()
    # Unacked messages are back in their queue once the consumers are gone.
    await side.daemon.stopService()
    connection = pika_connection(node)
    try:
        side.channel = connection.channel()
        assert side.count("inbound") == 0
    finally:
        connection.close()


@pytest_twisted.ensureDeferred
async def test_slow(run_daemon: RunDaemon, rabbitmq: RabbitNode, receiver: Receiver, posts: Posts) -> None:
    """A message whose POST is under way when the channel closes comes again, and is not POSTed again beside it: the
    answer that comes at last holds."""
    receiver.default = Answer(how="hold")
    options = OPTIONS | {"mo_message_url_timeout": 120}
    async with run_daemon("junebug", mo_message_url=receiver.url(), **options) as side:
        published = publish(side)
        await receiver.received(len(SENDERS))
        await closed_four_times(rabbitmq, side)
        assert posts.came == published
        receiver.default = Answer()
        receiver.release()
        await all_acked(side, rabbitmq)
        assert posts.came == posts.taken == published


@pytest.mark.parametrize(
    ("failing", "options"),
    [
        (Answer(503, delay=0.1), {}),
        (Answer(how="close", delay=0.1), {}),
        (Answer(how="hang"), {"mo_message_url_timeout": 0.5}),
    ],
    ids=["503", "closes", "hangs"],
)
@pytest_twisted.ensureDeferred
async def test_down(
    run_daemon: RunDaemon,
    rabbitmq: RabbitNode,
    receiver: Receiver,
    posts: Posts,
    failing: Answer,
    options: dict[str, Any],
) -> None:
    """While the receiver is down each message is POSTed once at a time, however often the channel closes, and is
    delivered once when the receiver is well."""
    receiver.default = failing
    async with run_daemon("junebug", mo_message_url=receiver.url(), **OPTIONS | options) as side:
        published = publish(side)
        await receiver.received(len(SENDERS))
        await closed_four_times(rabbitmq, side)
        receiver.default = Answer()
        await until(lambda: posts.taken.keys() >= published.keys(), "the deliveries", 40)
        await all_acked(side, rabbitmq)
        assert posts.taken == published
        assert posts.most_at_once == 1


def consuming(event: LogEvent) -> bool:
    return event.get("log_format") == "Consuming {queue}" and event["queue"] == "c.inbound"


@pytest_twisted.ensureDeferred
async def test_consumer_timeout(
    private_rabbitmq: Callable[[], RabbitNode], receiver: Receiver, posts: Posts
) -> None:
    """RabbitMQ's own consumer_timeout closes the channel while a receiver is slow: each message is POSTed once."""
    node = await deferToThread(private_rabbitmq)
    # The broker looks every minute, and its configuration file has no option for that.
    milliseconds = {"consumer_timeout": 1000, "channel_tick_interval": 300}
    settings = (f"application:set_env(rabbit, {name}, {value})" for name, value in milliseconds.items())
    await deferToThread(node.ctl, "eval", f"{', '.join(settings)}.")
    receiver.default = Answer(how="hold")
    channel = pika_connection(node).channel()
    options = OPTIONS | {"mo_message_url": receiver.url(), "mo_message_url_timeout": 120}
    with capturedLogs() as logged:
        async with running(node, "c", channel, receiver, "junebug", **options) as side:
            published = publish(side)
            await receiver.received(len(SENDERS))
            # At first, and after each close.
            await until(lambda: sum(map(consuming, logged)) > 2, "the channel to be closed twice")
            assert posts.came == published
            receiver.default = Answer()
            receiver.release()
            await all_acked(side, node)
            assert posts.came == posts.taken == published
