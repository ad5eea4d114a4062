"""The commands in README and the pages of docs, run as printed against `make run`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pika import BasicProperties

from tests.conftest import pika_connection
from tests.support.channels import RunJunebug, inbound
from tests.support.demo import Demo
from tests.support.examples import DEMO, examples_of
from tests.support.pages import PAGES, block, blocks, commands
from tools.servers.rabbitmq import RabbitNode

PARKED = "42be1538debc4be9bee939ee9cdad86b"
"""The id of the pages."""
DELAY_QUEUE = "junebug-turn.delay.2h"
"""The longest one: no message comes back from it during a test."""
DELAYED = {
    **{"reason": "http_status", "last_status": 503, "attempts": 4, "delays": 1},
    **{"first_failure": "2026-01-02T03:04:05+00:00", "last_failure": "2026-01-02T03:04:05+00:00"},
}
QUEUES = ("demo-rapidpro.inbound.parked", "demo.inbound.parked", DELAY_QUEUE)

# What the reader has to fill in, and the connectors of the pages.
PLACES = {
    r"\bMESSAGE_ID\b": PARKED,
    r"(?<=--connector )(sms|NAME)\b": "demo-rapidpro",
}
END_OF_INPUT = "\x04"
STATUSES = {'"Forged"': 1}
"""Commands that show a failure, and their status."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitNode) -> Iterator[Demo]:
    """One for all tests of this file."""
    running = Demo(tmp_path_factory.mktemp("demo"), rabbitmq)
    yield running
    running.close()
    connection = pika_connection(rabbitmq)
    for queue in QUEUES:
        connection.channel().queue_purge(queue)
    connection.close()


def _fail(demo: Demo, node: RabbitNode) -> None:
    """Have a message parked that its destination refuses, and one that can't be read; the first waits for another
    attempt, too."""
    refused = inbound("demo-rapidpro", message_id=PARKED, from_addr=None)
    connection = pika_connection(node)
    channel = connection.channel()
    channel.basic_publish("vumi", "demo-rapidpro.inbound", refused.to_json())
    channel.queue_purge(DELAY_QUEUE)
    properties = BasicProperties(headers=DELAYED)
    channel.basic_publish(DELAY_QUEUE, "demo-rapidpro.inbound", refused.to_json(), properties)
    channel.basic_publish("vumi", "demo.inbound", b"no message")
    deadline = time.monotonic() + 60
    while not all(channel.queue_declare(queue, passive=True).method.message_count for queue in QUEUES):
        assert time.monotonic() < deadline, demo.run.output
        time.sleep(0.05)
    connection.close()


def _scripts(text: str) -> list[str]:
    """The commands of a block: those after a prompt, or each line where one of them fails, else the whole block."""
    prompted = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    if prompted:
        return ["\n".join(prompted)]
    return text.splitlines() if any(words in text for words in STATUSES) else [text]


def _run(demo: Demo, script: str) -> str:
    for place, found in PLACES.items():
        script = re.sub(place, found, script)
    status = next((found for words, found in STATUSES.items() if words in script), 0)
    return demo.shell(script, "y\n", status)


@pytest.mark.parametrize("page", sorted({example.page for example in examples_of(DEMO)}))
def test_a_block(demo: Demo, rabbitmq: RabbitNode, page: str) -> None:
    """The commands of a page, in their order, do what they are for: their status says so, and no answer is an error."""
    for example in examples_of(DEMO):
        if example.page != page:
            continue
        if "junebug-turn" in example.text or "api/messages" in example.text:
            _fail(demo, rabbitmq)
        for script in _scripts(example.text):
            if script.startswith("telnet"):
                demo.shell(script, f"Hi there\n{END_OF_INPUT}")
                demo.run.until('"content": "Hi there"')
                continue
            for line in _run(demo, script).splitlines():
                if line.startswith('{"'):
                    assert json.loads(line).get("status") in (None, 200, 201, "accepted"), (script, line)


def test_the_output_of_the_receiver(demo: Demo) -> None:
    """What README shows of the receiver is what it prints, but for the id."""
    shown = block("README.md", "receiver |")
    demo.type("junebug", "Hi there")
    pattern = re.sub("[0-9a-f]{32}", "[0-9a-f]{32}", re.escape(shown.strip()))
    demo.run.until(pattern.replace(re.escape("  ..."), "(?:  .*\n)*?.*"))


def test_the_health(demo: Demo) -> None:
    """The answer of /health has the parts that the page shows."""
    command, shown = block("docs/deliveries.md", "$ curl").splitlines()
    answer: dict[str, Any] = json.loads(demo.shell(command.removeprefix("$ ")))
    whole = re.sub(r",\.\.\.", "", shown)
    example = json.loads(whole)
    assert example.keys() <= answer.keys()
    assert example["components"].keys() <= answer["components"].keys()
    destinations = example["components"]["destinations"]
    assert destinations.keys() <= answer["components"]["destinations"].keys()


def test_a_trace(demo: Demo, rabbitmq: RabbitNode) -> None:
    """The command prints the trace of a message, which begins as on the page."""
    _fail(demo, rabbitmq)
    (command,) = _scripts(block("docs/operations.md", "$ junebug-turn trace"))
    printed = _run(demo, command).splitlines()
    # The cache of the demo is in the daemon's memory: the command can't see there that the message is inbound.
    assert printed[0] == f"message {PARKED} on demo-rapidpro"
    assert any("parked" in line for line in printed)


def test_the_commands_in_sentences(demo: Demo) -> None:
    """A request to the daemon in a sentence or a table gets its answer."""
    found = {command for page in PAGES for command in commands(page) if "http://127.0.0.1:8080" in command}
    assert len(found) >= 2
    for command in found:
        assert json.loads(demo.shell(command))


def test_the_commands_of_rabbitmqctl(rabbitmq: RabbitNode) -> None:
    """Each command of rabbitmqctl in a sentence or a table is one that it has, and so are the columns of its lists."""
    found = {command for page in PAGES for command in commands(page) if command.startswith("rabbitmqctl ")}
    verbs: dict[str, set[str]] = {}
    for command in found:
        _, verb, *words = command.partition("|")[0].split()
        verbs.setdefault(verb, set()).update(word for word in words if re.fullmatch("[a-z_]+", word))
    known = set(re.findall(r"^ +([a-z_]+) ", rabbitmq.ctl("help"), re.MULTILINE))
    assert set(verbs) <= known
    for verb in ("list_queues", "list_connections"):
        assert verbs[verb] <= set(re.findall(r"[a-z_]+", rabbitmq.ctl("help", verb)))


@pytest_twisted.ensureDeferred
async def test_the_requests_for_channels(run_junebug: RunJunebug, tmp_path: Path) -> None:
    """The requests of the page make a channel, a router and its destination."""
    requests = []
    for example in blocks("docs/channels.md"):
        if example.text.startswith("POST /"):
            requests += re.findall(r"^POST (\S+)\n(.*)$", example.text, re.MULTILINE)
    assert len(requests) == 3
    async with run_junebug(channels_store="sqlite", channels_path=str(tmp_path / "channels.db")) as side:
        id = await side.create()
        for path, body in requests:
            answer = await side.call("POST", path.replace("<id>", id), body.replace("<id>", id).encode())
            assert answer.status == 201, answer
            id = answer.body["result"]["id"] if "routers" in path else id
