"""The operators' page, as a browser without JavaScript gets it."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest_twisted
from attrs import evolve

from junebug_turn.http.admin.operators.guard import FormTokens
from junebug_turn.messages.vumi import Event
from tests.integration.conftest import RunDaemon
from tests.support.daemon import until
from tests.support.operators import NUMBER, TEXT, Desk, inbound
from tools.servers.receiver import Receiver

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OPTIONS: dict[str, Any] = {"admin_bind": "localhost:0", "max_retries": 0, "retry_window": 0}
HOSTILE = "<script>alert(1)</script>'\"&"


@asynccontextmanager
async def desk(run_daemon: RunDaemon, receiver: Receiver, **options: Any) -> AsyncIterator[Desk]:
    async with run_daemon("junebug", **({"mo_message_url": receiver.url()} | OPTIONS | options)) as side:
        yield Desk(side)


def buttons(page: str) -> dict[str, tuple[str, dict[str, str]]]:
    """The buttons of a page: text -> where its form is POSTed, and its fields."""
    found = {}
    for action, inner in re.findall(r'<form method="post" action="([^"]*)">(.*?)</form>', page, re.DOTALL):
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', inner)
        (text,) = re.findall(r"<button[^>]*>([^<]*)</button>", inner)
        found[text] = html.unescape(action), {name: html.unescape(value) for name, value in fields}
    return found


async def press(at: Desk, page: str, text: str) -> str:
    """Press a button, and return the page that comes then."""
    action, fields = buttons(page)[text]
    status, _ = await at.page(action, "POST", data=urlencode(fields).encode(), headers=FORM)
    assert status == 303
    return action


@pytest_twisted.ensureDeferred
async def test_overview(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """GET / is a page for a person: does it flow, and the connectors with their queues, consumers and transports."""
    async with desk(run_daemon, receiver) as at:
        at.side.channel.basic_consume(f"{at.side.connector}.outbound", lambda *_: None)
        await at.counted()
        status, page = await at.page("/")
        assert status == 200
        assert "Messages flow." in page
        assert "transport is there" in page
        assert at.side.connector in page
        await press(at, page, "Pause")
        assert at.side.daemon.health()["amqp"]["paused"]
        page = (await at.page("/?done=paused"))[1]
        assert "Messages flow, but not everywhere." in page
        assert f"{at.side.connector} is paused" in page
        await press(at, page, "Resume")
        await until(at.side.live, "the consumers")
        assert (
            (await at.page("/static/operators.css"))[0] == (await at.page("/static/operators.js"))[0] == 200
        )


@pytest_twisted.ensureDeferred
async def test_parked(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """Parked messages can be looked at, replayed and dropped; bodies and whole addresses are shown when asked for."""
    async with desk(run_daemon, receiver) as at:
        first, second = at.park_messages(2)
        await until(lambda: at.side.count("inbound.parked") == 2, "the parked ones")
        _, page = await at.page("/parked")
        assert first in page
        assert second in page
        (link,) = re.findall(rf'href="(/parked/{first}[^"]*)"', page)
        _, one = await at.page(html.unescape(link))
        for text in (page, one):
            assert NUMBER[1:] not in text
            assert TEXT not in text
        (link,) = re.findall(r'href="(/parked/[^"]*full=true[^"]*)"', one)
        _, full = await at.page(html.unescape(link))
        assert NUMBER in full
        assert f"{TEXT} 0" in full
        await press(at, one, "Replay")
        await until(lambda: len(receiver.requests) == 1, "the delivery")
        _, one = await at.page(f"/parked/{second}")
        await press(at, one, "Drop it for ever")
        assert at.side.count("inbound.parked") == 0
        status, gone = await at.page(f"/parked/{second}")
        assert status == 404
        assert "no parked message has the id" in gone


@pytest_twisted.ensureDeferred
async def test_replay_of_a_choice(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """All that the filter selects can be replayed at once, and nothing else is."""
    async with desk(run_daemon, receiver) as at:
        at.park_messages(2, reason="timeout")
        at.park_messages(3)
        await until(lambda: at.side.count("inbound.parked") == 5, "the parked ones")
        _, page = await at.page(f"/parked?connector={at.side.connector}&kind=&reason=timeout")
        await press(at, page, "Replay all that are selected")
        await until(lambda: len(receiver.requests) == 2, "the deliveries")
        assert at.side.count("inbound.parked") == 3


@pytest_twisted.ensureDeferred
async def test_hostile_texts(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """Texts of others are inert on every page, whatever they hold, and so is what stands in the URL."""
    async with desk(run_daemon, receiver) as at:
        message = evolve(inbound(HOSTILE, from_addr=HOSTILE, to_addr=HOSTILE), message_id=HOSTILE)
        at.park("inbound", message, reason=HOSTILE, extra=HOSTILE)
        at.park("event", Event(user_message_id=HOSTILE, event_id=HOSTILE, event_type="ack"), reason=HOSTILE)
        await until(lambda: at.side.count("event.parked") == at.side.count("inbound.parked") == 1, "both")
        escaped = {"connector": at.side.connector, "kind": "inbound", "reason": HOSTILE}
        _, listed = await at.page("/parked")
        links = {html.unescape(link) for link in re.findall(r'href="(/parked/[^"]*)"', listed)}
        assert len(links) == 2
        pages = [listed, (await at.page(f"/parked?{urlencode(escaped)}"))[1]]
        for link in links:
            pages += [(await at.page(link))[1], (await at.page(f"{link}&full=true"))[1]]
        for path in (
            "/parked?reason=",
            "/parked?connector=",
            "/parked?",
            "/?find=",
            "/?done=",
            "/messages?id=",
        ):
            pages.append((await at.page(path + urlencode({"": HOSTILE})[1:]))[1])
        for page in pages:
            assert "<script>" not in page
            assert "alert(1)<" not in page
        assert sum("alert(1)" in page for page in pages) >= 6


@pytest_twisted.ensureDeferred
async def test_forged_forms(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """A form without the page's own token changes nothing, nor one that another site has sent."""
    async with desk(run_daemon, receiver) as at:
        at.park_messages(1)
        await until(lambda: at.side.count("inbound.parked") == 1, "the parked one")
        _, page = await at.page("/parked")
        action, fields = buttons(page)["Replay all that are selected"]
        for token, headers in (
            ("", {}),
            (FormTokens().token(_Request()), {}),
            (fields["token"], {"Origin": "https://evil.example"}),
            (fields["token"], {"Sec-Fetch-Site": "cross-site"}),
        ):
            body = urlencode(fields | {"token": token}).encode()
            status, _ = await at.page(action, "POST", data=body, headers=FORM | headers)
            assert status == 403
        assert at.side.count("inbound.parked") == 1


class _Request:
    class requestHeaders:
        @staticmethod
        def getRawHeaders(name: bytes, default: Any) -> Any:
            return default
