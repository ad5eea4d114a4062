"""Messages that a receiver refuses between others that it takes: the whole daemon, and the delay of the others."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from junebug_turn.messages.vumi import Message
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Running
from tools.servers.receiver import Answer, Received, Receiver

reactor: Any = _reactor

PACE = 0.1  # seconds between two messages
LIMIT = 2.0  # seconds, of the delays' 99th percentile; what is held up comes after several


class Sent:
    """The messages of a test: when each was published, and when it was answered with 200."""

    def __init__(self, side: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.side = side
        self.receiver = receiver
        self.published: dict[str, float] = {}
        self.taken: dict[str, float] = {}
        self.refused: dict[str, int] = {}
        monkeypatch.setattr(receiver, "answer_to", self.answer_to)

    def answer_to(self, request: Received) -> Answer:
        message_id = request.json["message_id"]
        status = self.refused.get(message_id, 200)
        if status == 200:
            self.taken.setdefault(message_id, time.monotonic())
        return Answer(status)

    def publish(self, status: int = 200, **fields: Any) -> None:
        """Publish an inbound message, which is always answered with ``status``."""
        message = Message(to_addr="8110", transport_name=self.side.connector, **fields)
        if status == 200:
            self.published[message.message_id] = time.monotonic()
        else:
            self.refused[message.message_id] = status
        self.side.publish("inbound", message)

    async def all_come(self) -> None:
        """Wait until all are taken that should be."""
        await self.receiver.until(lambda: self.taken.keys() >= self.published.keys(), "all others")

    async def all_in_time(self) -> None:
        """Wait until all are taken that should be; their delays' 99th percentile is under ``LIMIT``."""
        await self.all_come()
        delays = sorted(self.taken[name] - since for name, since in self.published.items())
        assert delays[int((len(delays) - 1) * 0.99)] < LIMIT, delays
        await self.receiver.until(
            lambda: self.refused.keys() <= self._asked(), "an attempt at each refused one"
        )

    def _asked(self) -> set[str]:
        return {request.json["message_id"] for request in self.receiver.requests}


@pytest.mark.parametrize("status", [404, 500, 301])
@pytest_twisted.ensureDeferred
async def test_one_message_delays_no_other(
    run_daemon: RunDaemon, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """One message that a receiver refuses, with whatever status and however often, delays no other message."""
    async with run_daemon(
        "junebug", mo_message_url=receiver.url(), retry_delay_base=1, max_retries=10
    ) as side:
        sent = Sent(side, receiver, monkeypatch)
        sent.publish(status, from_addr="+0", content="refused", transport_type="sms")
        for number in range(40):
            sent.publish(from_addr=f"+{number % 7 + 1}", content="taken", transport_type="sms")
            await deferLater(reactor, PACE)
        await sent.all_in_time()
        assert side.daemon.health()["destinations"]["ok"]


@pytest_twisted.ensureDeferred
async def test_every_close_is_refused(
    run_daemon: RunDaemon, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that answers 500 to the end of each USSD session gets all other messages at once: more refused
    ones than the daemon may hold, each for minutes, take no place."""
    async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
        sent = Sent(side, receiver, monkeypatch)
        for number in range(40):
            dial = {"from_addr": f"+{number}", "transport_type": "ussd"}
            sent.publish(**dial, content="*120#", session_event="new")
            sent.publish(500, **dial, content=None, session_event="close")
            await deferLater(reactor, PACE)
        await sent.all_in_time()


@pytest_twisted.ensureDeferred
async def test_a_stall(run_daemon: RunDaemon, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall of the daemon, after which the retries of many refused messages are due in one moment, doesn't make the
    destination count as down: all other messages come."""
    async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
        sent = Sent(side, receiver, monkeypatch)
        for number in range(60):
            dial = {"from_addr": f"+{number}", "transport_type": "ussd"}
            sent.publish(**dial, content="*120#", session_event="new")
            sent.publish(500, **dial, content=None, session_event="close")
            sent.publish(500, **dial | {"from_addr": f"-{number}"}, content=None, session_event="close")
            await deferLater(reactor, PACE / 5)
            if number in (20, 40):
                time.sleep(1.5)  # noqa: ASYNC251  (the stall)
        await sent.all_come()
        origin = f"http://127.0.0.1:{receiver.port}"
        assert origin not in side.daemon.health()["destinations"].get("origins", {})
