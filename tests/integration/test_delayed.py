"""Delayed messages, for operators: look, replay and drop, on the page, by the API and by the command."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from junebug_turn.amqp.queue_browser import BATCH
from junebug_turn.cli import main, parked
from junebug_turn.cli.terminal import Terminal
from junebug_turn.daemon.operators import parked as service
from junebug_turn.daemon.settings import load
from tests.integration.conftest import RunDaemon
from tests.integration.test_operators_page import press
from tests.support.daemon import until
from tests.support.operators import DELAY, DELAY_QUEUE, FAILED, NUMBER, TEXT, DelayDesk, inbound
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver


@asynccontextmanager
async def desk(run_daemon: RunDaemon, receiver: Receiver, **options: Any) -> AsyncIterator[DelayDesk]:
    given = {"admin_bind": "localhost:0", "mo_message_url": receiver.url(), "retry_delays": [DELAY]}
    async with run_daemon("junebug", **(given | options)) as side:
        at = DelayDesk(side)
        side.channel.queue_purge(DELAY_QUEUE)
        yield at
        side.channel.queue_purge(DELAY_QUEUE)


@pytest_twisted.ensureDeferred
async def test_look(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """Delayed messages with look: of this daemon's connectors, in their order, with their next attempt; addresses
    masked and bodies left out unless ?full=true; all stay."""
    async with desk(run_daemon, receiver) as at:
        first, second = await at.delayed(2)
        at.delay(inbound(), connector="of-another-daemon")
        await until(lambda: at.count() == 3, "the other one")
        for _ in range(3):
            answer = (await at.ask("GET", "/api/delayed")).body
            assert [each["id"] for each in answer["delayed"]] == [first, second]
            assert answer["more"] is False
        shown = answer["delayed"][0]
        assert (shown["from"], shown["to"], shown["attempts"]) == ("****4567", "****8888", 4)
        assert (shown["queue"], shown["next_try"]) == (DELAY_QUEUE, "2026-01-02T05:04:06+00:00")
        one = (await at.ask("GET", f"/api/delayed/{second}")).body
        assert (one["id"], one["connector"]) == (second, at.side.connector)
        assert not {"body", "headers"} & one.keys()
        full = (await at.ask("GET", f"/api/delayed/{second}?full=true")).body
        assert (full["from"], json.loads(full["body"])["content"]) == (NUMBER, f"{TEXT} 1")
        assert full["headers"]["last_status"] == 503
        chosen = (await at.ask("GET", "/api/delayed?reason=timeout")).body
        assert chosen == {"delayed": [], "more": False}
        assert (await at.ask("GET", "/api/delayed?connector=nobody")).status == 404
        missing = await at.ask("GET", "/api/delayed/nothing")
        assert missing.status == 404
        assert "no delayed message has the id nothing" in missing.body["result"]["errors"][0]["message"]
        assert (await at.ask("GET", f"/api/parked/{first}")).status == 404
        assert at.count() == 3


@pytest_twisted.ensureDeferred
async def test_replay_and_drop(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """Delayed messages with replay and drop: replayed, a message is tried at once, and one that fails again has its
    history; dropped, it is gone."""
    async with desk(run_daemon, receiver, max_retries=0, retry_window=1) as at:
        first, second, third, fourth = await at.delayed(4)
        answer = await at.ask("POST", f"/api/delayed/{second}/replay")
        assert (answer.status, answer.body) == (200, {"replayed": 1, "more": False})
        (request,) = await receiver.received(1)
        assert request.json["message_id"] == second
        receiver.script(404)
        await at.ask("POST", f"/api/delayed/{third}/replay")
        await until(lambda: at.side.count("inbound.parked") == 1, "the parked one")
        refused = (await at.ask("GET", f"/api/parked/{third}?full=true")).body
        assert (refused["first_failure"], refused["delays"], refused["attempts"]) == (FAILED, 1, 5)
        assert (await at.ask("DELETE", f"/api/delayed/{fourth}")).body == {"dropped": 1}
        for method, rest in (("GET", ""), ("POST", "/replay"), ("DELETE", "")):
            assert (await at.ask(method, f"/api/delayed/{fourth}{rest}")).status == 404
        assert (await at.ask("POST", "/api/delayed/replay", {"reason": "timeout"})).body["replayed"] == 0
        assert (await at.ask("POST", "/api/delayed/replay", {"resaon": "timeout"})).status == 400
        answer = await at.ask("POST", "/api/delayed/replay", {"reason": "http_status"})
        assert answer.body == {"replayed": 1, "more": False}
        assert (await receiver.received(3))[-1].json["message_id"] == first
        assert at.count() == 0


@pytest_twisted.ensureDeferred
async def test_many(run_daemon: RunDaemon, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list never reads all delayed messages: it reads those that it shows, and where it has to search, the first of
    each queue; then it says that there are more."""
    monkeypatch.setattr(service, "MOST_DELAYED", 10 * BATCH)
    async with desk(run_daemon, receiver) as at:
        message = inbound()

        def many() -> None:
            for _ in range(20 * BATCH):
                at.delay(message, connector="of-another-daemon")

        await deferToThread(many)
        own = at.delay(inbound())
        await until(lambda: at.count() == 20 * BATCH + 1, "the delayed ones")
        answer = await at.ask("GET", "/api/delayed")
        assert answer.body == {"delayed": [], "more": True}
        missing = await at.ask("POST", f"/api/delayed/{own}/replay")
        assert missing.status == 404
        assert "junebug-turn delayed" in missing.body["result"]["errors"][0]["message"]
        read = 0
        for _ in range(at.count()):
            method, _, _ = at.side.channel.basic_get(DELAY_QUEUE, auto_ack=True)
            read += method.redelivered
        assert read == 10 * BATCH


@pytest_twisted.ensureDeferred
async def test_page(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """The page has delayed messages with look, replay and drop, as it has parked ones, and needs no JavaScript."""
    async with desk(run_daemon, receiver) as at:
        first, second = await at.delayed(2)
        await at.counted()
        assert 'href="/delayed"' in (await at.page("/"))[1]
        _, page = await at.page("/delayed")
        assert first in page
        assert "2026-01-02T05:04:06+00:00" in page
        (link,) = re.findall(rf'href="(/delayed/{first}[^"]*)"', page)
        _, one = await at.page(html.unescape(link))
        for text in (page, one):
            assert NUMBER[1:] not in text
            assert TEXT not in text
        (link,) = re.findall(r'href="(/delayed/[^"]*full=true[^"]*)"', one)
        assert f"{TEXT} 0" in (await at.page(html.unescape(link)))[1]
        forged = urlencode({"token": "none"}).encode()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for action in ("replay", "drop"):
            path = f"/delayed/{first}/{action}"
            assert (await at.page(path, "POST", data=forged, headers=form))[0] == 403
        await press(at, one, "Try now")
        await receiver.received(1)
        _, one = await at.page(f"/delayed/{second}")
        await press(at, one, "Drop it for ever")
        assert at.count() == 0
        assert "No delayed messages are selected." in (await at.page("/delayed?done=dropped"))[1]


@pytest_twisted.ensureDeferred
async def test_command(run_daemon: RunDaemon, receiver: Receiver, rabbitmq: RabbitNode) -> None:
    """``junebug-turn delayed`` has the verbs and the filters of ``junebug-turn parked``, for delayed messages."""
    async with desk(run_daemon, receiver) as at:
        first, second, third = await at.delayed(3)
        flags = {
            "application": "junebug",
            "connector_name": at.side.connector,
            "http_bind": "127.0.0.1:0",
            "mo_message_url": receiver.url(),
            "amqp_hostname": rabbitmq.host,
            "amqp_port": str(rabbitmq.port),
            "retry_delays": f"[{DELAY}]",
        }

        async def run(*words: str) -> tuple[int, str, str]:
            out, err = io.StringIO(), io.StringIO()
            arguments = main.parser().parse_args(["delayed", *words])
            command = parked.Command(reactor, load(flags, {}), arguments, Terminal(out, err))
            return await command.run(), out.getvalue(), err.getvalue()

        status, out, err = await run("list", "--json")
        assert (status, err) == (0, "")
        assert [(each["id"], each["queue"]) for each in json.loads(out)] == [
            (each, DELAY_QUEUE) for each in (first, second, third)
        ]
        status, out, _ = await run("show", second, "--body")
        assert status == 0
        assert f"queue: {DELAY_QUEUE}" in out
        assert f"{TEXT} 1" in out
        assert (await run("replay", second))[:2] == (0, "Replayed 1 message.\n")
        (request,) = await receiver.received(1)
        assert request.json["message_id"] == second
        assert (await run("purge", first, "--yes"))[:2] == (0, "Purged 1 message.\n")
        status, _, err = await run("show", first)
        assert (status, err) == (1, f"junebug-turn: no delayed message has the id {first}\n")
        status, out, _ = await run("list", "--reason", "no-such")
        assert (status, out) == (0, "No delayed messages.\n")
        assert at.count() == 1
