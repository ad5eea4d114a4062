"""The operators' page in a real browser: look, replay, drop, pause, search."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from junebug_turn.daemon.build import make_daemon
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.support.browser import Browser
from tests.support.daemon import Running, settings, until
from tests.support.operators import DELAY, DELAY_QUEUE, NUMBER, TEXT, DelayDesk, Desk, inbound
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

_reactor: Any = reactor

PICTURES = os.environ.get("PICTURES")
"""The folder for the pictures of the documentation; none: no pictures are taken."""

USER, PASSWORD = "anna", "operators-passw0rd-of-this-test"
OPTIONS: dict[str, Any] = {
    "admin_bind": "localhost:0",
    "admin_auth": json.dumps({"tokens": ["operators-t0ken-of-this-test"], "users": {USER: PASSWORD}}),
    "max_retries": 0,
    "retry_window": 0,
}
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def url(at: Desk) -> str:
    """The page's URL with the login, which a person types into the browser's own form."""
    return at.url.replace("http://", f"http://{USER}:{PASSWORD}@")


@pytest_twisted.ensureDeferred
async def test_pause(run_daemon: RunDaemon, receiver: Receiver, browser: Browser) -> None:
    """A person sees whether messages flow, pauses a connector and resumes it, and the page refreshes itself."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), **OPTIONS) as side:
        at = Desk(side)
        side.channel.basic_consume(f"{side.connector}.outbound", lambda *_: None)
        await at.counted()
        assert "Messages flow." in await deferToThread(browser.open, url(at))
        await deferToThread(browser.press, "Pause")
        await deferToThread(browser.sees, f"{side.connector} is paused")
        assert side.daemon.health()["amqp"]["paused"]
        await deferToThread(browser.press, "Resume")
        await deferToThread(browser.sees, "The connector is resumed.")
        await until(side.live, "the consumers")
        at.park_messages(3)
        await until(lambda: side.count("inbound.parked") == 3, "the parked ones")
        await at.counted()
        await deferToThread(browser.driver.execute_script, "document.activeElement.blur()")
        await deferToThread(_refreshed, browser, "3")
        assert browser.faults() == []


def _refreshed(browser: Browser, parked: str) -> None:
    """Wait until the page has the number of parked messages, without having been loaded again."""
    browser.driver.execute_script("window.loaded = true")
    browser.until(
        lambda driver: driver.find_element("css selector", "td[data-label=Parked]").text.endswith(parked),
        "the refreshed page",
    )
    assert browser.driver.execute_script("return window.loaded")


async def look_and_act(browser: Browser, receiver: Receiver, first: str, second: str, replay: str) -> None:
    """From a list of messages, look at the first one, see its text only after asking for it, have it tried again, and
    drop the second one.

    :param replay: the button that has it tried again
    """
    await deferToThread(browser.sees, second)
    await deferToThread(browser.press, first)
    await deferToThread(browser.sees, "Show its text and addresses")
    assert TEXT not in browser.text()
    assert NUMBER not in browser.text()
    await deferToThread(browser.press, "Show its text and addresses")
    await deferToThread(browser.sees, f"{TEXT} 0")
    await deferToThread(browser.press, replay)
    await deferToThread(browser.sees, "The messages are back in their queues.")
    await until(lambda: len(receiver.requests) == 1, "the delivery")
    await deferToThread(browser.press, second)
    await deferToThread(browser.press, "Drop...")
    await deferToThread(browser.press, "Drop it for ever")
    await deferToThread(browser.sees, "The message is dropped.")


@pytest_twisted.ensureDeferred
async def test_parked(run_daemon: RunDaemon, receiver: Receiver, browser: Browser) -> None:
    """A person looks at parked messages, sees a text only after asking for it, replays one and drops another; and
    finds a message by its id."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), **OPTIONS) as side:
        at = Desk(side)
        first, second = at.park_messages(2)
        await until(lambda: side.count("inbound.parked") == 2, "the parked ones")
        await deferToThread(browser.open, url(at))
        await deferToThread(browser.press, "Parked messages")
        await look_and_act(browser, receiver, first, second, "Replay")
        assert side.count("inbound.parked") == 0
        await deferToThread(browser.press, "Find a message")
        await deferToThread(browser.type, "id", first)
        await deferToThread(browser.press, "Find")
        await deferToThread(browser.sees, f"Inbound on {side.connector}")
        await deferToThread(browser.sees, "delivered")
        assert browser.faults() == []


@pytest_twisted.ensureDeferred
async def test_delayed(run_daemon: RunDaemon, receiver: Receiver, browser: Browser) -> None:
    """A person looks at delayed messages from the overview, sees a text only after asking for it, has one tried now and
    drops another."""
    options = OPTIONS | {"retry_delays": [DELAY]}
    async with run_daemon("junebug", mo_message_url=receiver.url(), **options) as side:
        at = DelayDesk(side)
        side.channel.queue_purge(DELAY_QUEUE)
        first, second = await at.delayed(2)
        await at.counted()
        await deferToThread(browser.open, url(at))
        await deferToThread(browser.press, "Look at them")
        await look_and_act(browser, receiver, first, second, "Try now")
        assert at.count() == 0
        assert browser.faults() == []


@pytest_twisted.ensureDeferred
async def test_hostile_texts(run_daemon: RunDaemon, receiver: Receiver, browser: Browser) -> None:
    """What others wrote is shown as text: no script of theirs runs, on no page."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), **OPTIONS) as side:
        at = Desk(side)
        message = evolve(inbound(HOSTILE, from_addr=HOSTILE, to_addr=HOSTILE), message_id=HOSTILE)
        at.park("inbound", message, reason=HOSTILE[:90])
        await until(lambda: side.count("inbound.parked") == 1, "the parked one")
        await deferToThread(browser.open, url(at))
        await deferToThread(browser.press, "Parked messages")
        await deferToThread(browser.driver.find_element("css selector", "tbody th a").click)
        await deferToThread(browser.press, "Show its text and addresses")
        await deferToThread(browser.sees, "onerror")
        assert browser.driver.title == "Parked message - junebug-turn"
        assert browser.faults() == []


@pytest.mark.parametrize("width", [360, 1280])
@pytest_twisted.ensureDeferred
async def test_small_screens(run_daemon: RunDaemon, receiver: Receiver, browser: Browser, width: int) -> None:
    """On a phone nothing stands outside of the screen, in the overview nor in the list of parked messages."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), **OPTIONS) as side:
        at = Desk(side)
        at.park_messages(2)
        await until(lambda: side.count("inbound.parked") == 2, "the parked ones")
        await at.counted()
        await deferToThread(browser.open, url(at))
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            for page in ("", "/parked"):
                await deferToThread(browser.open, at.url + page)
                whole, window = browser.width()
                assert whole <= window == width
        finally:
            browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.skipif(PICTURES is None, reason="takes the pictures of the documentation: make pictures")
@pytest_twisted.ensureDeferred
async def test_pictures(rabbitmq: RabbitNode, vhost: str, receiver: Receiver, browser: Browser) -> None:
    """The pictures of docs/operations.md: light, dark, small."""
    folder = Path(PICTURES or "")
    os.makedirs(folder, exist_ok=True)
    names = ("sms", "ussd", "sms-reminders")
    applications = [
        {"connector_name": name, "base_url_path": f"/{name}", "mo_message_url": receiver.url()}
        for name in names
    ]
    made = settings(rabbitmq, "junebug", applications=applications, amqp_vhost=vhost, **OPTIONS)
    daemon = make_daemon(_reactor, made)
    daemon.privilegedStartService()
    daemon.startService()
    connection = pika_connection(rabbitmq, vhost)
    try:
        side = Running(daemon, "sms", receiver, connection.channel(), "")
        await until(side.live, "the consumers")
        at = Desk(side)
        for name in names[:2]:
            side.channel.basic_consume(f"{name}.outbound", lambda *_: None)
        at.park_messages(2)
        await until(lambda: side.count("inbound.parked") == 2, "the parked ones")
        for _ in range(3):
            side.publish("inbound", inbound())
            await deferLater(_reactor, 4)
        await daemon.pausing.pause("ussd", True)
        await at.counted()
        take: Callable[..., Any] = browser.picture
        await deferToThread(browser.open, url(at))
        await deferToThread(take, folder / "operators-light.png", 1100, 700)
        await deferToThread(take, folder / "operators-dark.png", 1100, 700, dark=True)
        await deferToThread(take, folder / "operators-small.png", 390, 1100)
        await deferToThread(browser.open, f"{at.url}/parked")
        await deferToThread(take, folder / "operators-parked.png", 1100, 420)
    finally:
        connection.close()
        await daemon.stopService()
