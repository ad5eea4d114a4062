"""What ``grep MESSAGE_ID`` finds in the log: the story of the message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import globalLogPublisher

from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.logging.observer import Lines
from tests.integration.conftest import RunDaemon
from tests.support.daemon import until
from tools.servers.receiver import Receiver

SECRET_TEXT = "my diagnosis"


class Logged:
    """The daemon's log of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def grep(self, text: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.path.read_text("utf-8").splitlines() if text in line]
        # At debug Twisted tells of its factories, too.
        return [line for line in found if line["namespace"].startswith("junebug_turn.")]

    def story(self, message_id: str) -> list[str]:
        return [line["text"].replace(message_id, "ID") for line in self.grep(message_id)]


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Logged]:
    path = tmp_path / "log"
    lines = Lines("DEBUG", {"logfile": str(path)}, log_format="json")
    globalLogPublisher.addObserver(lines)
    yield Logged(path)
    globalLogPublisher.removeObserver(lines)


@pytest_twisted.ensureDeferred
async def test_outbound(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver, logged: Logged
) -> None:
    """An outbound message: taken, published, and each of its events with its delivery."""
    event_url = receiver.url("/events")
    async with run_daemon(
        "junebug",
        mo_message_url=receiver.url(),
        retry_delay_base=0,
    ) as side:
        answered = await side.post(
            {"to": "+27820000001", "from": "8110", "content": SECRET_TEXT, "event_url": event_url}
        )
        message_id = answered.body["result"]["message_id"]
        event = Event(user_message_id=message_id, event_type="ack", sent_message_id="s")
        receiver.script(503)
        side.publish("event", event)
        await receiver.received(2)
        await until(lambda: len(logged.story(message_id)) >= 5, "the story")
    origin = receiver.url("")
    story = logged.story(message_id)
    assert story[:3] == [
        "Publishing outbound message ID for ***0001",
        "Published outbound message ID",
        "Received ack of message ID",
    ]
    assert story[3].startswith(f"Delivery to {origin} failed: HTTP status 503; attempt 1, the next in ")
    assert story[4:] == [f"Delivered to {origin}, attempt 2"]
    assert {line["connector"] for line in logged.grep(message_id)} == {connector_name}
    assert {line["event_id"] for line in logged.grep(message_id)[2:]} == {event.event_id}
    shown = [line["text"] for line in logged.grep(message_id) if line["level"] != "debug"]
    assert len(shown) == 3
    assert logged.grep("; attempt 1, the next in ")[0]["level"] == "warn"
    assert "27820000001" not in logged.path.read_text()
    assert SECRET_TEXT not in logged.path.read_text()


@pytest_twisted.ensureDeferred
async def test_put_off(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver, logged: Logged
) -> None:
    """A parked or delayed message always has its line, with its id; no line of a single message is rate-limited away,
    not that of a failed attempt either."""
    async with run_daemon("junebug", mo_message_url=receiver.url(), max_retries=0) as side:
        ids: dict[int, list[str]] = {500: [], 400: []}
        for status in (500, 400, 500, 400, 500, 400):
            receiver.script(status, 200)
            fields = {"from_addr": f"+{status}", "transport_name": connector_name, "transport_type": "sms"}
            refused, taken = (Message(to_addr="8110", content=SECRET_TEXT, **fields) for _ in range(2))
            ids[status].append(refused.message_id)
            for message in (refused, taken):
                side.publish("inbound", message)
                await receiver.received(len(receiver.requests) + 1)
        await until(lambda: len(logged.grep("Parked") + logged.grep("Deferred")) == 6, "the lines")
    for status, done in ((500, "Deferred"), (400, "Parked")):
        for message_id in ids[status]:
            last = logged.grep(message_id)[-1]
            assert (last["level"], last["text"].split()[:2]) == ("warn", [done, message_id])
        attempts = [line["level"] for line in logged.grep(f"failed: HTTP status {status}")]
        assert attempts == ["warn", "warn", "warn"]
        assert {line["message_id"] for line in logged.grep(f"failed: HTTP status {status}")} == set(
            ids[status]
        )


@pytest_twisted.ensureDeferred
async def test_inbound(
    run_daemon: RunDaemon, connector_name: str, receiver: Receiver, logged: Logged
) -> None:
    """An inbound message: received, and delivered, or parked, which an operator is warned of."""
    async with run_daemon(
        "junebug",
        mo_message_url=receiver.url(),
        retry_delay_base=0,
    ) as side:
        good, bad = (
            Message(
                to_addr="8110",
                from_addr="+27820000001",
                transport_name=connector_name,
                transport_type="sms",
                content=SECRET_TEXT,
            )
            for _ in range(2)
        )
        side.publish("inbound", good)
        await receiver.received(1)
        receiver.script(400)
        side.publish("inbound", bad)
        await side.taken("inbound.parked")
        await until(lambda: len(logged.story(bad.message_id)) >= 3, "the story")
    origin = receiver.url("")
    assert logged.story(good.message_id) == [
        "Received inbound message ID",
        f"Delivered to {origin}, attempt 1",
    ]
    received, failed, parked = logged.grep(bad.message_id)
    assert (received["level"], received["from_addr"]) == ("debug", "***0001")
    assert failed["text"] == f"Delivery to {origin} failed: HTTP status 400; attempt 1, the last for now"
    assert (parked["level"], parked["reason"]) == ("warn", "http_status")
    assert "http_status, last status 400, 1 attempt: delivery to" in parked["text"]
    assert {line["connector"] for line in (received, failed, parked)} == {connector_name}
    assert SECRET_TEXT not in logged.path.read_text()
