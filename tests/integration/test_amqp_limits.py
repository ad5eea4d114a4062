"""The broker's limits and permissions, on a private RabbitMQ: one message must not hold up others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_twisted
import treq
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, UnroutableError
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, capturedLogs

from junebug_turn.cli.connectivity import reach
from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.settings import Settings
from junebug_turn.errors import DeliveryRefused, MessageTooLarge
from junebug_turn.messages.vumi import Message
from tests.conftest import pika_connection
from tests.support.connector_harness import Side, count, message, send, until
from tests.support.daemon import Running, reactor, running, settings
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

LIMIT = 10_000


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitNode]:
    """A node with a small ``max_message_size``."""
    node = RabbitNode(settings=f"max_message_size = {LIMIT}\n")
    node.start()
    yield node
    node.close()


@pytest.fixture
def channel(node: RabbitNode) -> Iterator[BlockingChannel]:
    connection = pika_connection(node)
    yield connection.channel()
    connection.close()


@pytest_twisted.async_yield_fixture
async def junebug(node: RabbitNode, channel: BlockingChannel, receiver: Receiver) -> AsyncIterator[Running]:
    urls = {"mo_message_url": receiver.url("/mo"), "base_url_path": "/c", "transport_type": "sms"}
    async with running(node, "limits", channel, receiver, "junebug", **urls) as side:
        yield side
    channel.queue_delete("limits.outbound")


@pytest_twisted.ensureDeferred
async def test_a_message_over_the_brokers_limit(junebug: Running) -> None:
    """The offender alone gets its error, 413; of the others each 201 is in the queue once, and nothing else is.  Health
    has the limit from the refusal on."""
    assert "max_message_size" not in junebug.daemon.health()["amqp"]

    def body(number: int) -> dict[str, str]:
        text = "x" * (LIMIT + number) if number % 10 == 5 else f"small {number}"
        return {"to": "+1", "from": "+2", "content": text}

    posts = [Deferred.fromCoroutine(junebug.post(body(number))) for number in range(150)]
    answers = [answer for _, answer in await DeferredList(posts)]
    statuses = [answer.status for answer in answers]
    assert [n for n, status in enumerate(statuses) if status == 413] == list(range(5, 150, 10))
    assert statuses.count(201) == 135
    error = answers[5].body["result"]["errors"][0]
    assert error["type"] == "MessageTooLarge"
    assert f"{LIMIT} at most" in error["message"]
    found = []
    while (taken := junebug.take("outbound")) is not None:
        found.append(json.loads(taken[1])["content"])
    assert sorted(found) == sorted(body(n)["content"] for n in range(150) if n % 10 != 5)
    assert junebug.daemon.health()["amqp"]["max_message_size"] == LIMIT


@pytest_twisted.ensureDeferred
async def test_a_limit_is_known_for_one_connection(node: RabbitNode) -> None:
    """The broker's limit shows in its status for the connection that met it: the next one may be to a broker with
    another limit."""
    side = await Side(node, "sizes").start()
    try:
        with pytest.raises(MessageTooLarge):
            await side.connector.publish(message("x" * LIMIT)).confirmed
        assert side.broker.status()["max_message_size"] == LIMIT
        node.close_connections()
        await until(lambda: "max_message_size" not in side.broker.status())
        await side.connector.publish(message("small")).confirmed
        assert "max_message_size" not in side.broker.status()
    finally:
        await side.broker.stop_consuming(1)
        await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_limit_below_all_that_is_taken_as_small(
    private_rabbitmq: Callable[..., RabbitNode], receiver: Receiver, connector_name: str
) -> None:
    """Under a limit that no message has met yet the offender has 413; each 201 is in its queue once; one with 503, sent
    before the offender and not confirmed, is there once or not at all.  From then on there is no 503."""
    node = await deferToThread(private_rabbitmq, "max_message_size = 1000\n")
    connection = pika_connection(node)
    urls = {"mo_message_url": receiver.url("/mo"), "base_url_path": "/c"}
    sizes = {number: 1000 if number % 10 == 5 else 10 for number in range(60)}
    try:
        async with running(node, connector_name, connection.channel(), receiver, "junebug", **urls) as side:
            for answers_of_small in ({201, 503}, {201}):
                texts = {number: f"{number} {'x' * size}" for number, size in sizes.items()}
                bodies = [{"to": "+1", "from": "+2", "content": text} for text in texts.values()]
                posts = [Deferred.fromCoroutine(side.post(body)) for body in bodies]
                answers = [answer for _, answer in await DeferredList(posts)]
                assert {answers[n].status for n, size in sizes.items() if size == 1000} == {413}
                assert {answers[n].status for n, size in sizes.items() if size == 10} <= answers_of_small
                for answer in answers:
                    if answer.status == 503:
                        assert answer.body["result"]["errors"][0]["type"] == "AmqpConnectionError"
                        assert answer.headers["retry-after"]
                found = Counter()
                while (taken := side.take("outbound")) is not None:
                    found[json.loads(taken[1])["content"]] += 1
                taken_ones = {texts[n] for n, answer in enumerate(answers) if answer.status == 201}
                unknown = {texts[n] for n, answer in enumerate(answers) if answer.status == 503}
                assert set(found.values()) == {1}
                assert taken_ones <= found.keys() <= taken_ones | unknown
    finally:
        connection.close()


def closed_channels(events: list[LogEvent]) -> list[str]:
    """The names of the channels that the log says have ended."""
    return [event["name"] for event in events if event["log_format"].startswith("The AMQP channel of")]


@pytest_twisted.ensureDeferred
async def test_a_copy_that_is_refused(node: RabbitNode, channel: BlockingChannel) -> None:
    """A copy that the user may not write to the default exchange disturbs no outbound message, and its original goes
    back to its queue."""
    node.ctl("add_user", "no-copies", "pw")
    node.ctl("set_permissions", "-p", "/", "no-copies", ".*", "^(vumi|copies.*)$", ".*")
    side = Side(node, "copies", amqp={"username": "no-copies", "password": "pw"})

    async def refuse(message: Message) -> None:
        raise DeliveryRefused(
            "no", reason="http_status", last_status=400, attempts=1, first_failure=0, last_failure=0
        )

    side.handle = refuse
    await side.start()
    try:
        # Before anything is put off.
        missing = "the permission to write to the exchange junebug-turn.delay.30s is missing: "
        assert [fault for fault in side.broker.status()["faults"] if fault.startswith(missing)]
        assert not [fault for fault in side.broker.status()["faults"] if "exchange vumi" in fault]
        with capturedLogs() as events:
            send(channel, "copies.inbound", message("refused").to_json())
            await until(lambda: closed_channels(events))
            for number in range(50):
                await side.connector.publish(message(str(number))).confirmed
        assert set(closed_channels(events)) == {"publishing copies"}
        assert side.broker.status()["faults"][-1] == (
            "the broker's user may not write to the exchange amq.default: give it the permission"
        )
        assert count(channel, "copies.outbound") == 50
    finally:
        await side.broker.stop_consuming(1)
        await side.broker.stopService()
    assert count(channel, "copies.inbound") == 1


@pytest_twisted.ensureDeferred
async def test_an_exchange_that_is_refused(node: RabbitNode, channel: BlockingChannel) -> None:
    """Of many messages under way one for an exchange that the user may not write to ends their channel.  It gets its
    error, which names the exchange; what was written before it is confirmed, or fails since that is not known; what
    came after it is sent again.  Each confirmed one is in its queue once, and none is there twice."""
    channel.exchange_declare("forbidden", "direct")
    node.ctl("add_user", "no-forbidden", "pw")
    writable = "^(vumi|amq.default|junebug-turn.*|among.*)$"
    node.ctl("set_permissions", "-p", "/", "no-forbidden", ".*", writable, ".*")
    side = await Side(node, "among", amqp={"username": "no-forbidden", "password": "pw"}).start()
    queue = "among.outbound"

    def publish(number: int) -> Deferred[None]:
        # Both are exchanges of copies, which share a channel.
        exchange = "forbidden" if number == 100 else ""
        return side.broker.publish(queue, b'"%d"' % number, exchange=exchange).confirmed

    try:
        found: Counter[bytes] = Counter()
        outcomes = await DeferredList([publish(number) for number in range(300)], consumeErrors=True)
        confirmed = {number for number, (success, _) in enumerate(outcomes) if success}
        errors = {
            number: str(failure.value) for number, (success, failure) in enumerate(outcomes) if not success
        }
        assert "write to the exchange forbidden: give it the permission" in errors.pop(100)
        # What was written before it may be answered in another way only where its outcome is not known.
        assert all(number < 100 and "was not confirmed" in text for number, text in errors.items()), errors
        assert set(range(101, 300)) <= confirmed
        await until(lambda: count(channel, queue) >= len(confirmed))
        while (body := channel.basic_get(queue, auto_ack=True)[2]) is not None:
            found[body] += 1
        assert set(found.values()) == {1}
        assert {b'"%d"' % number for number in confirmed} <= found.keys()
        assert b'"100"' not in found
    finally:
        await side.broker.stop_consuming(1)
        await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_too_few_channels(
    private_rabbitmq: Callable[..., RabbitNode], receiver: Receiver, connector_name: str
) -> None:
    """With a small ``channel_max`` at the broker /health is down and says how many channels are needed, nothing turns
    in circles, and the daemon stops."""
    node = private_rabbitmq("channel_max = 2\n")
    daemon = make_daemon(
        reactor,
        settings(
            node,
            "junebug",
            connector_name=connector_name,
            mo_message_url=receiver.url("/mo"),
            base_url_path="/c",
        ),
    )
    daemon.privilegedStartService()
    daemon.startService()
    try:
        await until(lambda: daemon.health()["amqp"]["connected"])
        amqp = daemon.health()["amqp"]
        assert not amqp["ok"]
        assert amqp["faults"] == [
            "publishing needs 4 channels on its connection, and the broker allows 2: raise channel_max at the broker",
            "consuming needs 3 channels on its connection, and the broker allows 2: raise channel_max at the broker",
        ]
        url = f"http://127.0.0.1:{daemon.addresses[0].port}/health"
        response = await treq.get(url, persistent=False, timeout=5)
        assert response.code == 500
        assert "raise channel_max" in await response.text()
    finally:
        await daemon.stopService()


def checked(node: RabbitNode, receiver: Receiver, name: str, **amqp: str) -> Settings:
    urls = {"mo_message_url": receiver.url("/mo"), "base_url_path": "/c"}
    return settings(node, "junebug", connector_name=name, **urls, **amqp)


@pytest_twisted.ensureDeferred
async def test_check_config_names_too_few_channels(
    private_rabbitmq: Callable[..., RabbitNode], receiver: Receiver
) -> None:
    """check-config says how many channels are needed, and how many the broker allows; and how the limit on messages can
    be seen, which AMQP has no question for."""
    node = private_rabbitmq("channel_max = 2\n")
    broker = (await reach(reactor, checked(node, receiver, "few"), 10))[0]
    assert (broker.fault, broker.ok) == (None, False)
    assert broker.lacks == (
        "4 channels on a connection, and the broker allows 2: raise channel_max at the broker",
    )
    assert "channel_max 2, of which 4 are needed; frame_max 131072" in broker.notes
    assert [note for note in broker.notes if "rabbitmqctl environment | grep max_message_size" in note]


@pytest_twisted.ensureDeferred
async def test_check_config_names_missing_permissions(
    node: RabbitNode, channel: BlockingChannel, receiver: Receiver
) -> None:
    """check-config names the permissions that it can ask for, and what is not there yet; it makes nothing."""
    delays = [f"delay.{delay}" for delay in ("1s", "5s", "30s", "5m", "30m", "2h")]
    for name in (*delays, "deferred", "return", "unroutable"):  # of other tests
        channel.exchange_delete(f"junebug-turn.{name}")
        channel.queue_delete(f"junebug-turn.{name}")
    before = node.ctl("list_queues", "-q", "name")
    channel.exchange_declare("vumi", "direct", durable=True)
    broker = (await reach(reactor, checked(node, receiver, "checked"), 10))[0]
    assert (broker.fault, broker.lacks) == (None, ())
    (missing,) = (note for note in broker.notes if note.startswith("not there yet"))
    assert "queue checked.inbound, " in missing
    assert "queue checked.event.parked" in missing
    assert "exchange vumi" not in missing
    assert node.ctl("list_queues", "-q", "name") == before

    channel.queue_declare("checked.inbound", durable=True)
    channel.basic_publish("", "checked.inbound", b"{}")
    node.ctl("add_user", "no-rights", "pw")
    node.ctl("set_permissions", "-p", "/", "no-rights", "^$", "^vumi$", ".*")
    login = {"amqp_username": "no-rights", "amqp_password": "pw"}
    broker = (await reach(reactor, checked(node, receiver, "checked", **login), 10))[0]
    assert broker.fault is None
    assert broker.lacks == (
        "the permission to configure exchange vumi, queue checked.inbound",
        "the permission to write to the exchanges junebug-turn.delay.1s, junebug-turn.delay.5s, "
        "junebug-turn.delay.30s, junebug-turn.delay.5m, junebug-turn.delay.30m, junebug-turn.delay.2h, "
        "junebug-turn.deferred, junebug-turn.unroutable, amq.default",
    )
    assert count(channel, "checked.inbound") == 1
    channel.queue_delete("checked.inbound")


def _routed(channel: BlockingChannel, queue: str, exchange: str = "vumi") -> bool:
    """Whether a message that pika publishes is routed to a queue."""
    own = channel.connection.channel()
    own.confirm_delivery()
    try:
        own.basic_publish(exchange, queue, message("m").to_json(), mandatory=True)
    except (UnroutableError, ChannelClosedByBroker):
        return False
    own.close()
    return True


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("gone", ["binding", "exchange"])
@pytest.mark.parametrize("exchange", ["vumi", "junebug-turn.return"])
async def test_what_is_deleted_at_run_time(
    node: RabbitNode, channel: BlockingChannel, gone: str, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binding that is removed, or an exchange that is deleted, is there again without anything being published."""
    monkeypatch.setattr("junebug_turn.amqp.topology_checks.CHECK_INTERVAL", 0.5)
    side = await Side(node, "mended").start()
    try:
        if gone == "binding":
            channel.queue_unbind("mended.inbound", exchange, "mended.inbound")
        else:
            channel.exchange_delete(exchange)
        # The alternate exchange takes what is not routed.
        await until(lambda: _routed(channel, "mended.inbound", exchange) and side.inbound)
    finally:
        await side.broker.stop_consuming(1)
        await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_a_virtual_host_that_is_full(node: RabbitNode) -> None:
    """A virtual host's queue limit, and a user without the right to declare, are told by the health."""
    node.ctl("add_vhost", "small")
    node.ctl("set_permissions", "-p", "small", "guest", ".*", ".*", ".*")
    node.ctl("set_vhost_limits", "-p", "small", '{"max-queues": 3}')
    node.ctl("add_vhost", "closed")
    node.ctl("set_permissions", "-p", "closed", "guest", "^$", ".*", ".*")
    for vhost, reason in (("small", "queue limit in vhost"), ("closed", "ACCESS_REFUSED")):
        side = Side(node, "full", amqp={"vhost": vhost})
        side.connector.consume(side.keep, side.keep_event)
        broker = side.broker
        broker.startService()
        try:
            await until(lambda broker=broker: broker.status().get("faults"))  # type: ignore[misc]
            fault = next(each for each in broker.status()["faults"] if each.startswith("the queue full."))
            assert "can't be declared" in fault
            assert reason in fault
        finally:
            await broker.stopService()
