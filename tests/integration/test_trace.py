"""All that is known of one message, with ``junebug-turn trace ID`` and in the daemon: when it came, published or not,
events, delivered, delayed (where, next try), parked (why), the circuit of its destination."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from junebug_turn.cli import main, trace
from junebug_turn.cli.terminal import Terminal
from junebug_turn.daemon.settings import load
from junebug_turn.errors import ConfigError
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.factory import make_store
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Running, until
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

TEXT = "my diagnosis"
NUMBER = "+27820000001"


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, Any]:
    """The options of a cache that the command reads, too."""
    return {"state_cache_class": "sqlite", "state_cache_config": {"path": str(tmp_path / "cache.db")}}


@pytest.fixture
def command(
    rabbitmq: RabbitNode, connector_name: str, receiver: Receiver, cache: dict[str, Any]
) -> Callable[..., Any]:
    """Calls ``junebug-turn trace``: its status, and what it wrote."""
    flags = {
        "application": "junebug",
        "connector_name": connector_name,
        "http_bind": "127.0.0.1:0",
        "mo_message_url": receiver.url(),
        "amqp_hostname": rabbitmq.host,
        "amqp_port": str(rabbitmq.port),
        "state_cache_class": "sqlite",
        "state_cache_config": json.dumps(cache["state_cache_config"]),
    }

    async def run(*words: str, **changes: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        arguments = main.parser().parse_args(["trace", *words])
        called = trace.Command(reactor, load(flags | changes, {}), arguments, Terminal(out, err))
        return await called.run(), out.getvalue(), err.getvalue()

    return run


def inbound(connector: str, **fields: Any) -> Message:
    return Message(
        to_addr="8110",
        transport_name=connector,
        transport_type="sms",
        content=TEXT,
        **{"from_addr": NUMBER, **fields},
    )


async def stepped(side: Running, message_id: str, *steps: str) -> dict[str, Any]:
    """The trace in the daemon, as soon as it has these steps."""
    found: list[dict[str, Any]] = []

    async def look() -> bool:
        found.append(await side.daemon.traces.find(message_id))
        shown = [step["step"] for each in found[-1]["connectors"] for step in each["steps"]]
        return all(step in shown for step in steps)

    for _ in range(200):
        if await look():
            return found[-1]
        await until(lambda: True)
    pytest.fail(f"the steps are {found[-1]}")


@pytest_twisted.ensureDeferred
async def test_outbound(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver, command: Callable[..., Any], cache: Any
) -> None:
    """An outbound message: when it came, that it is published, its events, and which of them was delivered or parked
    and why; its addresses are masked, and its text is left out."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), **cache) as side:
        answered = await side.post(
            {"to": NUMBER, "from": "8110", "content": TEXT, "event_url": receiver.url("/events")}
        )
        message_id = answered.body["result"]["message_id"]
        ack = Event(user_message_id=message_id, event_type="ack", sent_message_id="s")
        report = Event(user_message_id=message_id, event_type="delivery_report", delivery_status="delivered")
        for event, status in ((ack, 200), (report, 400)):
            receiver.script(status)
            side.publish("event", event)
            await receiver.received(len(receiver.requests) + 1)
        found = await stepped(side, message_id, "published", "delivered", "parked")
        (known,) = found["connectors"]
        status, text, _ = await command(message_id)
        assert status == 0
        as_json = json.loads((await command(message_id, "--json"))[1])
        full = json.loads((await command(message_id, "--json", "--full"))[1])
    assert (known["connector"], known["kind"], known["to"]) == (connector_name, "outbound", "****0001")
    assert known["came"] is not None
    assert known["published"] is True
    assert known["parked"][0]["reason"] == "http_status"
    assert known["parked"][0]["last_status"] == 400
    assert {each["event_id"]: (each["event"], each["step"]) for each in known["events"]} == {
        ack.event_id: ("ack", "delivered"),
        report.event_id: ("delivered", "parked"),
    }
    origin = receiver.url("")
    assert {each["origin"]: each["circuit"] for each in known["destinations"]} == {
        origin: "closed",
        f"{origin} (event_url)": "closed",
    }
    for word in (message_id, "accepted", "published", "ack", f"origin {origin}", "parked", "http_status 400"):
        assert word in text
    # The command knows all of it but the circuits.
    (told,) = as_json["connectors"]
    for each in (*told["parked"], *known["parked"]):
        del each["age"]
    assert told == known | {
        "destinations": [each | {"circuit": None} for each in known["destinations"]],
    }
    for shown in (text, json.dumps(as_json)):
        assert "27820000001" not in shown
        assert TEXT not in shown
    assert full["connectors"][0]["to"] == NUMBER
    assert report.event_id in full["connectors"][0]["parked"][0]["body"]


@pytest_twisted.ensureDeferred
async def test_inbound(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver, command: Callable[..., Any], cache: Any
) -> None:
    """An inbound message: when it came, and that it was delivered, or is delayed, where and until when, or is parked
    and why."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), max_retries=0, **cache) as side:
        messages = {status: inbound(connector_name) for status in (200, 500, 400)}
        for status, message in messages.items():
            receiver.script(status)
            side.publish("inbound", message)
            await receiver.received(len(receiver.requests) + 1)
            await side.handlers_done()
        delivered = await stepped(side, messages[200].message_id, "delivered")
        delayed = await stepped(side, messages[500].message_id, "deferred")
        parked = await stepped(side, messages[400].message_id, "parked")
        looked = json.loads((await command(messages[500].message_id, "--json", "--look"))[1])
    for found in (delivered, delayed, parked):
        (known,) = found["connectors"]
        assert (known["kind"], known["from"], known["published"]) == ("inbound", "****0001", None)
        assert known["came"] is not None
    (step,) = delivered["connectors"][0]["delivered"]
    assert step["origin"] == receiver.url("")
    assert delivered["connectors"][0]["delayed"] is None
    where = delayed["connectors"][0]["delayed"]
    assert (where["queue"], where["reason"], where["status"]) == ("junebug-turn.delay.5s", "http_status", 500)
    assert where["next_try"] > where["at"]
    assert parked["connectors"][0]["delayed"] is None
    assert [each["reason"] for each in parked["connectors"][0]["parked"]] == ["http_status"]
    # Where it waits may be over by now: the command sees the same queue, or nothing there.
    assert {each["queue"] for each in looked["waiting"]} <= {"junebug-turn.delay.5s"}


@pytest.mark.options(retry_delays=[3600], mo_message_url="http://127.0.0.1:1/")
@pytest_twisted.ensureDeferred
async def test_delay_queue(
    run_daemon: RunDaemon, connector_name: str, command: Callable[..., Any], pika_channel: Any, cache: Any
) -> None:
    """What the journal does not know is found in the delay queues, where the command looks into them; it stays."""
    message = inbound(connector_name)
    async with run_daemon("junebug", **cache):
        pika_channel.basic_publish("junebug-turn.delay.1h", f"{connector_name}.inbound", message.to_json())
        await until(
            lambda: pika_channel.queue_declare("junebug-turn.delay.1h", passive=True).method.message_count
        )
        status, text, err = await command(message.message_id, "--look", retry_delays="[3600]")
        assert (status, err) == (0, "")
        assert text.startswith("waits in junebug-turn.delay.1h: inbound")
        unlooked, _, err = await command(message.message_id, retry_delays="[3600]")
        assert (unlooked, err) == (1, f"junebug-turn: nothing is known of a message {message.message_id}\n")
    queue = pika_channel.queue_declare("junebug-turn.delay.1h", passive=True)
    assert queue.method.message_count == 1
    pika_channel.queue_purge("junebug-turn.delay.1h")


@pytest_twisted.ensureDeferred
async def test_open_circuit(run_daemon: RunDaemon, connector_name: str, receiver: Receiver) -> None:
    """The circuit of the message's destination is shown, with its fault."""
    async with run_daemon("junebug", mo_message_url="http://127.0.0.1:1/", max_retries=0) as side:
        messages = [inbound(connector_name, from_addr=f"+2782000000{n}") for n in range(9)]
        for message in messages:
            side.publish("inbound", message)
        await until(lambda: side.daemon.deliverer.degraded(), "the circuit")
        found = await stepped(side, messages[0].message_id, "deferred")
    (destination,) = found["connectors"][0]["destinations"]
    assert destination["circuit"] == "open"
    assert (destination["origin"], destination["fault"]) == ("http://127.0.0.1:1", "connection")


@pytest_twisted.ensureDeferred
async def test_memory(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver, command: Callable[..., Any]
) -> None:
    """With the cache in memory the daemon knows the message, and the command says who knows."""
    async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
        message = inbound(connector_name)
        side.publish("inbound", message)
        await stepped(side, message.message_id, "delivered")
        status, _, err = await command(
            message.message_id, state_cache_class="memory", state_cache_config="{}"
        )
    assert status == 1
    assert f"GET /api/messages/{message.message_id} of admin_bind" in err


@pytest_twisted.ensureDeferred
async def test_no_broker(connector_name: str, command: Callable[..., Any]) -> None:
    """Without a broker the cache is shown, and what is missing is said."""
    status, out, err = await command("unknown", amqp_port="1")
    assert (status, out) == (1, "")
    assert "parked messages are not shown" in err


@pytest_twisted.ensureDeferred
async def test_channel(command: Callable[..., Any], cache: dict[str, Any], tmp_path: Path) -> None:
    """A channel of the store of channels is asked for by its name."""
    store = make_store(
        "sqlite",
        cache["state_cache_config"],
        option="channels.defaults.state_cache",
        connector="channels",
        clock=reactor,
    )
    message = inbound("a-channel")
    await store.start()
    await store.sibling("a-channel").store_inbound(message)
    await store.stop()
    channels = {
        "channels_store": "sqlite",
        "channels_path": str(tmp_path / "channels.db"),
        "channels_http_bind": "127.0.0.1:0",
        "channels_defaults": json.dumps(cache),
    }
    status, text, _ = await command(message.message_id, "--connector", "a-channel", **channels)
    assert status == 0
    assert text.startswith(f"inbound {message.message_id} on a-channel\n  from: ****0001\n")
    assert (await command(message.message_id, **channels))[0] == 1


@pytest_twisted.ensureDeferred
async def test_unknown_connector(command: Callable[..., Any]) -> None:
    """A connector that is not configured is an error that names those that are."""
    with pytest.raises(ConfigError, match="no connector is named nobody"):
        await command("m", "--connector", "nobody")
