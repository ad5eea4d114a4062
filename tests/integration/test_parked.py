"""The command ``junebug-turn parked``, as a function and as a process, on a real RabbitMQ."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from junebug_turn.amqp.queue_browser import BATCH, QueueBrowser
from junebug_turn.cli import main, parked
from junebug_turn.cli.terminal import INTERRUPTED, Terminal
from junebug_turn.daemon.settings import load
from junebug_turn.errors import DeliveryRefused
from junebug_turn.messages.vumi import Event, Message
from tests.conftest import pika_connection
from tests.support.connector_harness import Side, count, message, until
from tools.servers.rabbitmq import RabbitNode

ROOT = Path(__file__).parent.parent.parent


class Shelf:
    """The parked queues of a connector, and commands on them."""

    def __init__(self, node: RabbitNode, connector: str, channel: BlockingChannel) -> None:
        self.node = node
        self.connector = connector
        self.channel = channel
        self.flags = {
            "application": "junebug",
            "connector_name": connector,
            "http_bind": "127.0.0.1:0",
            "mo_message_url": "http://127.0.0.1:1/",
            "amqp_hostname": node.host,
            "amqp_port": str(node.port),
        }
        for kind in ("inbound", "event"):
            channel.queue_declare(f"{connector}.{kind}", durable=True)
            channel.queue_declare(f"{connector}.{kind}.parked", durable=True)

    def park(self, kind: str, body: bytes, **headers: Any) -> None:
        ours = {
            "reason": "http_status",
            "last_status": 503,
            "attempts": 8,
            "delays": 1,
            "first_failure": "2026-01-02T03:04:05+00:00",
            "last_failure": "2026-01-02T04:04:05+00:00",
        }
        self.channel.basic_publish(
            "",
            f"{self.connector}.{kind}.parked",
            body,
            pika.BasicProperties(delivery_mode=2, expiration="3600000", headers=ours | headers),
        )

    def park_messages(self, number: int, **headers: Any) -> list[str]:
        """Park so many inbound messages; their ids."""
        messages = [message(str(n), from_addr="+27821234567") for n in range(number)]
        for each in messages:
            self.park("inbound", each.to_json(), **headers)
        return [each.message_id for each in messages]

    def count(self, queue: str) -> int:
        return count(self.channel, f"{self.connector}.{queue}")

    def ids(self, queue: str) -> list[str]:
        """The ids of the messages in a queue, which is empty afterwards."""
        found = []
        while True:
            method, _, body = self.channel.basic_get(f"{self.connector}.{queue}", auto_ack=True)
            if method is None:
                return found
            found.append(json.loads(body)["message_id"])

    async def listed(self, *words: str, of: int) -> list[str]:
        """The ids that list shows, of so many inbound messages that are there."""
        await self.until_back(of)
        return [found["id"] for found in json.loads((await self.run("list", "--json", *words))[1])]

    async def until_back(self, number: int) -> None:
        """Wait for parked messages: a quorum queue takes a moment to have back what was looked at."""
        await until(lambda: self.count("inbound.parked") == number)

    def arguments(self, *words: str) -> list[str]:
        flags = [f"--{name.replace('_', '-')}={text}" for name, text in self.flags.items()]
        return ["parked", words[0], *flags, *words[1:]]

    async def run(self, *words: str, **terminal: Any) -> tuple[int, str, str]:
        """The command as a function: its status and what it wrote."""
        out, err = io.StringIO(), terminal.pop("err", io.StringIO())
        command = parked.Command(
            reactor,
            load(self.flags, {}),
            main.parser().parse_args(self.arguments(*words)),
            Terminal(out, err, **terminal),
        )
        status = await command.run()
        return status, out.getvalue(), err.getvalue()

    def start(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        """The command as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "junebug_turn.cli.main", *words],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]} | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*self.arguments(*words))
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def shelf(rabbitmq: RabbitNode, connector_name: str, pika_channel: BlockingChannel) -> Iterator[Shelf]:
    return Shelf(rabbitmq, connector_name, pika_channel)


# list and show


def test_list(shelf: Shelf) -> None:
    """list shows id, masked addresses, reason, last status, attempts, first failure and age; all stays."""
    (first,) = shelf.park_messages(1)
    event = Event(user_message_id="mine", event_type="ack", sent_message_id="s")
    shelf.park("event", event.to_json(), reason="timeout")
    status, out, err = shelf.call("list")
    assert (status, err) == (0, "")
    head, inbound, second = out.splitlines()
    assert head.split()[:5] == ["ID", "KIND", "CONNECTOR", "FROM", "TO"]
    words = inbound.split()
    assert words[:2] == [first, "inbound"]
    assert words[3:9] == ["****4567", "+1", "http_status", "503", "8", "2026-01-02T03:04:05+00:00"]
    assert second.split()[:2] == [event.event_id, "event"]
    assert "2782123" not in out
    assert (shelf.count("inbound.parked"), shelf.count("event.parked")) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_list_as_json(shelf: Shelf) -> None:
    """--json is an array of objects, empty where there is nothing."""
    assert await shelf.run("list", "--json") == (0, "[]\n", "")
    (first,) = shelf.park_messages(1)
    shelf.park("event", b"not JSON", reason="unreadable")
    status, out, _ = await shelf.run("list", "--json")
    found = json.loads(out)
    assert status == 0
    assert found[0].pop("age") > 0
    assert found[0] == {
        "id": first,
        "kind": "inbound",
        "connector": shelf.connector,
        "from": "****4567",
        "to": "+1",
        "user_message_id": None,
        "reason": "http_status",
        "last_status": 503,
        "last_error": None,
        "destination": None,
        "attempts": 8,
        "delays": 1,
        "first_failure": "2026-01-02T03:04:05+00:00",
        "last_failure": "2026-01-02T04:04:05+00:00",
    }
    assert found[1]["id"].startswith("unreadable-")


@pytest_twisted.ensureDeferred
async def test_list_selects(shelf: Shelf) -> None:
    """--kind, --reason, --connector and the others select, through more than one batch; all stays, in its order."""
    many = shelf.park_messages(120)
    few = shelf.park_messages(3, reason="dns")
    shelf.park("event", b"{}")
    assert await shelf.listed("--kind=inbound", "--limit=0", of=123) == many + few
    assert await shelf.listed("--reason=dns", f"--connector={shelf.connector}", of=123) == few
    assert await shelf.listed("--destination=elsewhere.example", of=123) == []
    assert await shelf.listed("--newer-than=1h", of=123) == []
    assert await shelf.listed("--older-than=1h", "--reason=dns", of=123) == few
    assert len(await shelf.listed("--kind=event", of=123)) == 1
    assert await shelf.listed("--reason=no-such", of=123) == []
    await shelf.until_back(123)
    assert shelf.ids("inbound.parked") == many + few


@pytest_twisted.ensureDeferred
async def test_list_has_a_limit(shelf: Shelf) -> None:
    """--limit selects the first ones, 100 without it, and the command says that there may be more; all stays, in its
    order."""
    many = shelf.park_messages(120)
    few = shelf.park_messages(3, reason="dns")
    assert await shelf.listed("--limit=70", of=123) == many[:70]
    assert await shelf.listed(of=123) == many[:100]
    assert await shelf.listed("--limit=122", of=123) == [*many, *few[:2]]
    assert await shelf.listed("--reason=dns", "--limit=2", of=123) == few[:2]
    assert "more" in (await shelf.run("list"))[2]
    await shelf.until_back(123)
    assert shelf.ids("inbound.parked") == many + few


@pytest_twisted.ensureDeferred
async def test_show(shelf: Shelf) -> None:
    """show tells all of one, its headers too; its body only with --body."""
    first, second = shelf.park_messages(2, custom="x\x1b[31m")
    status, out, _ = await shelf.run("show", second)
    assert status == 0
    assert f"id: {second}" in out
    assert re.search(r"^age: \d+d \d+h$|^age: (\d+[hm] )?\d+[ms]$", out, re.MULTILINE)
    assert "custom: x?[31m" in out
    assert "content" not in out
    assert "2782123" not in out
    status, out, _ = await shelf.run("show", first, "--body", "--json")
    found = json.loads(out)
    assert Message.from_json(found["body"].encode()).message_id == first
    assert found["headers"]["attempts"] == 8
    status, out, err = await shelf.run("show", "nobody")
    assert (status, out) == (1, "")
    assert "no parked message has the id nobody" in err


@pytest_twisted.ensureDeferred
async def test_show_a_compressed_body(shelf: Shelf) -> None:
    """list and show read a body with a content_encoding; what can't be decompressed is shown as it is."""
    sent = message()
    for body in (gzip.compress(sent.to_json()), b"not gzip"):
        properties = pika.BasicProperties(content_encoding="gzip", headers={"reason": "error"})
        shelf.channel.basic_publish("", f"{shelf.connector}.inbound.parked", body, properties)
    status, out, _ = await shelf.run("list", "--json")
    readable, damaged = json.loads(out)
    assert (status, readable["id"]) == (0, sent.message_id)
    _, out, _ = await shelf.run("show", readable["id"], "--body", "--json")
    assert Message.from_json(json.loads(out)["body"].encode()) == sent
    _, out, _ = await shelf.run("show", damaged["id"], "--body", "--json")
    assert json.loads(out)["body"] == "not gzip"


@pytest_twisted.ensureDeferred
async def test_hostile_headers(shelf: Shelf) -> None:
    """Headers and bodies that can't be ours are listed, shown and replayed like any."""
    shelf.park("inbound", b"\xff\x00", attempts=-1, reason=["x"], first_failure={"a": 1}, delays="many")
    status, out, _ = await shelf.run("list", "--json")
    (found,) = json.loads(out)
    assert (status, found["attempts"], found["reason"]) == (0, 0, "error")
    assert (await shelf.run("show", found["id"], "--body"))[0] == 0
    assert (await shelf.run("replay", "--all"))[0] == 0
    assert shelf.channel.basic_get(f"{shelf.connector}.inbound", True)[2] == b"\xff\x00"


# replay


@pytest_twisted.ensureDeferred
async def test_replay(shelf: Shelf) -> None:
    """replay puts messages back into their own queue, in order, without our headers and without expiration."""
    shelf.channel.exchange_declare("vumi", "direct", durable=True)
    other = shelf.channel.queue_declare("", exclusive=True).method.queue
    shelf.channel.queue_bind(other, "vumi", f"{shelf.connector}.inbound")
    ids = shelf.park_messages(120, mine=5)
    status, out, _ = await shelf.run("replay", "--all")
    assert (status, out) == (0, "Replayed 120 messages.\n")
    method, properties, _ = shelf.channel.basic_get(f"{shelf.connector}.inbound")
    assert properties.headers == {"mine": 5}
    assert properties.expiration is None
    assert properties.delivery_mode == 2
    shelf.channel.basic_nack(method.delivery_tag)
    assert shelf.ids("inbound") == ids
    assert shelf.count("inbound.parked") == 0
    assert count(shelf.channel, other) == 0, "the default exchange gives nobody else a copy"


@pytest_twisted.ensureDeferred
async def test_replay_selects(shelf: Shelf) -> None:
    """replay takes ids, --reason and --limit; what is not selected stays, in its order."""
    many, few = shelf.park_messages(60), shelf.park_messages(3, reason="dns")
    assert (await shelf.run("replay", many[3], many[55], "--json"))[:2] == (0, '{"replayed": 2}\n')
    assert shelf.ids("inbound") == [many[3], many[55]]
    assert (await shelf.run("replay", "--reason=dns", "--limit=2"))[0] == 0
    replayed = shelf.ids("inbound")
    assert replayed == few[:2]
    status, out, err = await shelf.run("replay", "nobody", "--json")
    assert (status, json.loads(out)) == (1, {"replayed": 0, "missing": ["nobody"]})
    assert "nobody" in err
    rest = [each for each in many if each not in (many[3], many[55])]
    await shelf.until_back(59)
    assert shelf.ids("inbound.parked") == [*rest, *(each for each in few if each not in replayed)]


@pytest_twisted.ensureDeferred
async def test_replay_to_a_running_daemon(shelf: Shelf) -> None:
    """Messages that the daemon parks again are not replayed twice; a replayed one has a new history."""
    side = await Side(shelf.node, shelf.connector).start()
    seen: list[str] = []

    async def refuse(message: Message) -> None:
        seen.append(message.message_id)
        raise DeliveryRefused(
            "400", reason="http_status", last_status=400, attempts=1, first_failure=1e9, last_failure=1e9
        )

    side.handle = refuse
    ids = shelf.park_messages(70)
    assert (await shelf.run("replay", "--all"))[1] == "Replayed 70 messages.\n"
    await until(lambda: shelf.count("inbound.parked") == 70)
    assert sorted(seen) == sorted(ids)
    assert side.live()
    _, properties, _ = shelf.channel.basic_get(f"{shelf.connector}.inbound.parked")
    assert (properties.headers["attempts"], "delays" in properties.headers) == (1, False)
    await side.broker.stop_consuming(5)
    await side.broker.stopService()


@pytest_twisted.ensureDeferred
async def test_replay_without_its_queue(shelf: Shelf) -> None:
    """Where the queue is gone the messages stay parked, and the command fails with words."""
    ids = shelf.park_messages(2)
    shelf.channel.queue_delete(f"{shelf.connector}.inbound")
    status, out, err = await shelf.run("replay", "--all")
    assert (status, out) == (1, "Replayed 0 messages.\n")
    assert err == f"junebug-turn: there is no queue {shelf.connector}.inbound to put messages back into\n"
    assert shelf.ids("inbound.parked") == ids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_replay_interrupted(shelf: Shelf, number: signal.Signals) -> None:
    """A replay that is killed, or ended by Ctrl-C, loses none: each message is in its queue, or still parked."""
    ids = shelf.park_messages(3000)
    process = shelf.start(*shelf.arguments("replay", "--all"))
    end = time.monotonic() + 30
    while shelf.count("inbound") < 200:
        assert time.monotonic() < end
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (INTERRUPTED if number == signal.SIGINT else -signal.SIGKILL)
    # The broker gives back what was fetched once it sees the connection's end.
    while shelf.count("inbound") + shelf.count("inbound.parked") < 3000:
        assert time.monotonic() < end
    assert shelf.count("inbound") < 3000, "it was over before it was killed"
    found = shelf.ids("inbound") + shelf.ids("inbound.parked")
    assert set(found) == set(ids)
    assert len(found) - 3000 <= 50


@pytest_twisted.ensureDeferred
async def test_replay_cut(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection lost after copies are confirmed, before their originals are acked, is told, and loses none."""
    ids = shelf.park_messages(200)
    publish, calls = QueueBrowser.publish, []

    async def publish_and_cut(self: QueueBrowser, *arguments: Any) -> None:
        calls.append(arguments)
        number = len(calls)
        await publish(self, *arguments)
        if number == 75:
            await deferToThread(shelf.node.close_connections)

    monkeypatch.setattr(QueueBrowser, "publish", publish_and_cut)
    status, out, err = await shelf.run("replay", "--all")
    assert status == 1
    assert out.startswith("Replayed ")
    assert "the connection to the AMQP broker is lost" in err
    connection = pika_connection(shelf.node)
    shelf.channel = connection.channel()
    await until(lambda: shelf.count("inbound") + shelf.count("inbound.parked") == 200 + BATCH)
    assert set(shelf.ids("inbound") + shelf.ids("inbound.parked")) == set(ids)
    connection.close()


# purge


def test_purge_with_nobody_to_ask(shelf: Shelf) -> None:
    """Without a terminal purge refuses; with --yes it drops, and only what is selected."""
    many, few = shelf.park_messages(60), shelf.park_messages(2, reason="dns")
    shelf.park("event", b"{}", reason="dns")
    status, out, err = shelf.call("purge")
    assert (status, out) == (1, "")
    assert "--yes" in err
    assert shelf.call("purge", "--yes", "--reason=dns", "--kind=inbound", "--json")[:2] == (
        0,
        '{"purged": 2}\n',
    )
    assert few
    assert shelf.count("event.parked") == 1
    assert shelf.ids("inbound.parked") == many


@pytest_twisted.ensureDeferred
async def test_purge_ids(shelf: Shelf) -> None:
    """purge drops the messages whose ids it is given, and no others; an id that is not there is an error."""
    many = shelf.park_messages(60)
    assert (await shelf.run("purge", many[55], "--yes", "--json"))[:2] == (0, '{"purged": 1}\n')
    status, out, err = await shelf.run("purge", many[3], "nobody", "--yes", "--json")
    assert (status, json.loads(out)) == (1, {"purged": 1, "missing": ["nobody"]})
    assert "nobody" in err
    assert shelf.ids("inbound.parked") == [each for each in many if each not in (many[3], many[55])]


@pytest_twisted.ensureDeferred
async def test_replay_without_a_selection(shelf: Shelf) -> None:
    """replay without any selection asks, with the number; where nobody can answer it wants --all."""
    shelf.park_messages(3)
    status, out, err = await shelf.run("replay")
    assert (status, out) == (1, "")
    assert "--all" in err
    questions: list[str] = []

    def yes(question: str) -> bool:
        questions.append(question)
        return True

    assert (await shelf.run("replay", ask=lambda question: False))[:2] == (1, "Replayed 0 messages.\n")
    assert shelf.count("inbound") == 0
    assert (await shelf.run("replay", ask=yes))[:2] == (0, "Replayed 3 messages.\n")
    assert "3" in questions[0]
    assert shelf.count("inbound") == 3


@pytest_twisted.ensureDeferred
async def test_nothing_is_parked(shelf: Shelf) -> None:
    """An empty list is a sentence; in JSON it is an empty list."""
    assert (await shelf.run("list"))[:2] == (0, "No parked messages.\n")
    assert (await shelf.run("list", "--json"))[:2] == (0, "[]\n")


@pytest_twisted.ensureDeferred
async def test_purge_asks(shelf: Shelf) -> None:
    """purge tells how many and asks; what is parked after the question stays, and so does all after a no."""
    shelf.park_messages(3)
    questions: list[str] = []

    def no(question: str) -> bool:
        questions.append(question)
        return False

    def yes_and_park(question: str) -> bool:
        shelf.park_messages(1)
        return True

    assert (await shelf.run("purge", ask=no))[:2] == (1, "Purged 0 messages.\n")
    assert "3" in questions[0]
    assert shelf.count("inbound.parked") == 3
    assert (await shelf.run("purge", ask=yes_and_park))[:2] == (0, "Purged 3 messages.\n")
    await shelf.until_back(1)


# errors and manners


def test_errors(shelf: Shelf) -> None:
    """A broker that is away, an unknown connector, a faulty configuration: a line each, and status 1."""
    shelf.flags["amqp_port"] = "1"
    status, out, err = shelf.call("list")
    assert (status, out) == (1, "")
    assert err.startswith("junebug-turn: no AMQP broker at 127.0.0.1:1: ")
    assert err.count("\n") == 1
    status, _, err = shelf.call("list", "--connector=other")
    assert (status, err) == (1, f"junebug-turn: no connector is named other; there is {shelf.connector}\n")
    shelf.flags["amqp_port"] = "many"
    status, _, err = shelf.call("list")
    assert status == 1
    assert err.startswith("junebug-turn: amqp.port: must be")


@pytest_twisted.ensureDeferred
async def test_a_wrong_password(shelf: Shelf) -> None:
    """A refused login names the user and the virtual host, not the password; the broker is there."""
    shelf.flags["amqp_password"] = "s3cret-pw"
    status, _, err = await shelf.run("list")
    assert status == 1
    assert "refused user guest on virtual host /" in err
    assert "no AMQP broker" not in err
    assert "ACCESS_REFUSED" in err
    assert "s3cret-pw" not in err


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_never_ran(shelf: Shelf) -> None:
    """Where there are no parked queues yet, nothing is parked."""
    for kind in ("inbound", "event"):
        shelf.channel.queue_delete(f"{shelf.connector}.{kind}.parked")
    assert await shelf.run("list", "--json") == (0, "[]\n", "")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest_twisted.ensureDeferred
async def test_progress(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal a line tells how far it is; elsewhere there is none."""
    monkeypatch.setattr(parked, "PROGRESS_INTERVAL", 0)
    shelf.park_messages(120)
    _, _, err = await shelf.run("list", "--reason=no-such", err=Screen())
    assert f"{shelf.connector}.inbound.parked: {3 * BATCH} of 120\r" in err
    assert (await shelf.run("list", "--reason=no-such"))[2] == ""


@pytest_twisted.ensureDeferred
async def test_a_walk_ends(shelf: Shelf) -> None:
    """A walk takes as many as there were, though others are parked meanwhile."""
    shelf.park_messages(60)
    session = await QueueBrowser.open(reactor, load(shelf.flags, {}).daemon.amqp)
    walk = await session.walk(f"{shelf.connector}.inbound.parked")
    assert walk is not None
    seen = len(await walk.fetch())
    shelf.park_messages(60)
    while batch := await walk.fetch():
        seen += len(batch)
    assert seen == 60
    await walk.end()
    await shelf.until_back(120)
    await session.close()


def test_the_configuration_file(shelf: Shelf, tmp_path: Path) -> None:
    """The command reads the daemon's own file, from --config or from the environment."""
    shelf.park_messages(1)
    file = tmp_path / "junebug-turn.yaml"
    file.write_text(json.dumps({name: text for name, text in shelf.flags.items() if "amqp" not in name}))
    for words, environ in (
        (["--config", str(file)], {}),
        ([], {"JUNEBUG_TURN_CONFIG_FILE": str(file)}),
    ):
        process = shelf.start(
            "parked", "list", "--json", *words, **environ, **{"AMQP_PORT": str(shelf.node.port)}
        )
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert len(json.loads(out)) == 1
