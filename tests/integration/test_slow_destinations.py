"""A slow destination holds up no other of its queue that comes back: the whole daemon, over real sockets."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from junebug_turn.connectors import deferred, retry_queues
from junebug_turn.connectors.retry_queues import SOON
from junebug_turn.delivery.retry import ASKS
from junebug_turn.messages.vumi import Event, Message
from tests.integration.conftest import RunDaemon
from tests.integration.test_metrics import scraped
from tests.integration.test_prompt_recovery import LIMIT, WHOLE, deferred_count, event_for
from tests.support.daemon import Running, until
from tools.servers.receiver import HANG, Answer, Received, Receiver

reactor: Any = _reactor

OUTAGE = 5.0  # seconds
MESSAGES = 100
"""Messages with two events each, for the destination that is down."""

OTHERS = 60
"""The same for the other ones, when the outage begins."""

KNOWN = 7
"""Requests to all of them, of which 5 are made before it is known how the other ones answer."""

INBOUND = 20
DEFERRAL = (5.0, 50)
"""As ``retry_queues.DEFERRAL``, so that most of these events are deferred."""

INTERVAL = deferred.INTERVAL


async def events_for(side: Running, url: str) -> tuple[Event, Event]:
    """Two events of a message with this event_url, published."""
    ack = await event_for(side, url)
    report = Event(
        user_message_id=ack.user_message_id, event_type="delivery_report", delivery_status="delivered"
    )
    side.publish("event", ack)
    side.publish("event", report)
    return ack, report


async def put_off(side: Running) -> float:
    """How often an event was put off."""
    _, samples, _ = await scraped(side.url)
    return sum(
        count for name, count in samples.items() if name[0] == "delayed_messages_total" and "event" in name
    )


@pytest_twisted.async_yield_fixture
async def more_receivers() -> AsyncIterator[list[Receiver]]:
    receivers = [Receiver(reactor) for _ in range(5)]
    for each in receivers:
        each.start()
    yield receivers
    for each in receivers:
        await each.stop()


@pytest.mark.parametrize(
    ("other", "number"),
    [
        pytest.param(
            Answer(delay=3),
            1,
            marks=pytest.mark.skipif(not WHOLE, reason="takes long: only with PROMPT_RECOVERY=whole"),
            id="slow",
        ),
        pytest.param(HANG, 6, id="several that hang"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_recovery_beside_another(
    run_daemon: RunDaemon,
    receiver: Receiver,
    more_receivers: list[Receiver],
    monkeypatch: pytest.MonkeyPatch,
    other: Answer,
    number: int,
) -> None:
    """When a destination answers again, everything that waited for it is under way within seconds, inbound messages and
    events alike, in order per message, also where clients' URLs that are slow or hang have events in the same queue:
    none of these is lost, and nothing moves through the broker in a busy loop."""
    monkeypatch.setattr(retry_queues, "DEFERRAL", DEFERRAL)
    # A daemon that has started returns what is deferred, for some minutes: here only an answer is to have that done.
    pauses = deferred.PAUSES
    monkeypatch.setattr(deferred, "PAUSES", ())
    monkeypatch.setattr(deferred, "INTERVAL", 0.0)
    down, troubled = False, True
    taken: dict[str, float] = {}
    in_vain: set[str] = set()

    def answer_to(request: Received) -> Answer:
        name = request.headers["webhook-id"]
        if request.path.startswith("/other") and troubled:
            if other is HANG:
                in_vain.add(name)
                return HANG
        elif down and not request.path.startswith("/other"):
            in_vain.add(name)
            return Answer(503)
        taken.setdefault(name, time.monotonic())
        return other if request.path.startswith("/other") and troubled else Answer()

    receivers = [receiver, *more_receivers[: number - 1]]
    for each in receivers:
        monkeypatch.setattr(each, "answer_to", answer_to)
    # Each host and port is another origin.
    urls = cycle([f"http://localhost:{each.port}/other" for each in receivers])
    timeout = 5 if other is HANG else 10
    async with run_daemon(
        "junebug", mo_message_url=receiver.url("/inbound"), event_url_timeout=timeout
    ) as side:
        # private: that a return is over shows in nothing that is public.
        await until(lambda: not side.daemon.deferred._working, "the first return")
        monkeypatch.setattr(deferred, "PAUSES", pauses)
        monkeypatch.setattr(deferred, "INTERVAL", INTERVAL)
        waiting: list[tuple[Event, Event]] = []
        others: list[tuple[Event, Event]] = []
        await events_for(side, receiver.url("/events"))
        await until(lambda: len(taken) == 2, "the first events")
        for _ in range(OTHERS):
            others.append(await events_for(side, next(urls)))
        await until(lambda: sum(len(each.requests) for each in receivers) > KNOWN, "the others to be known")
        down = True
        begun = time.monotonic()
        for _ in range(MESSAGES):
            waiting.append(await events_for(side, receiver.url("/events")))
        inbound = [
            Message(
                to_addr="8110", from_addr=f"+{number}", transport_name="t", transport_type="sms", content="c"
            )
            for number in range(INBOUND)
        ]
        for message in inbound:
            side.publish("inbound", message)

        async def until_all(ids: set[str], since: float, limit: float) -> float:
            """Wait until all have come, while events for the other go on; returns the seconds."""
            while not ids <= taken.keys() and time.monotonic() < since + limit:
                await deferLater(reactor, 0.2)
                others.append(await events_for(side, next(urls)))
            return max([taken.get(name, math.inf) for name in ids]) - since

        ids = {event.event_id for pair in waiting for event in pair} | {each.message_id for each in inbound}
        await until_all({"none"}, begun, OUTAGE)
        assert not ids & taken.keys()
        await until(lambda: deferred_count(side) > MESSAGES / 2, "the events to be deferred")
        down = False
        assert await until_all(ids, time.monotonic(), LIMIT) < LIMIT

        troubled = False
        for each in receivers:
            each.release()
        # As where any other destination answers: the test need not wait for the next return.
        side.daemon.deferred.recovered()
        every = [*waiting, *others]
        await until(
            lambda: all(event.event_id in taken for pair in every for event in pair), "the others", 60
        )
        seconds = time.monotonic() - begun
        await side.handlers_done()
        # Those that were tried in vain may be overtaken.
        overtaken = [
            pair
            for pair in every
            if not in_vain & {event.event_id for event in pair}
            and taken[pair[0].event_id] > taken[pair[1].event_id]
        ]
        assert not overtaken
        # Each comes back after 5 s, or with all that is deferred, which happens as often at most, and few do sooner.
        usual, soon = 2 * len(every) * (seconds / DEFERRAL[0] + 1), ASKS * (number + 1) * seconds
        assert await put_off(side) < usual + soon + SOON[1]
