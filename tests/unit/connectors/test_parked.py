"""Parked and delayed messages: what a list shows of them, which are selected, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.amqp.delivery import DELIVERY_LIMIT, Delivery
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.parked import KINDS, Parked, Place, Selection, masked
from junebug_turn.connectors.parked_messages import ParkedMessages
from junebug_turn.connectors.retry_queues import deferred_queue, delay_queue
from junebug_turn.errors import Unroutable
from junebug_turn.messages.vumi import Event
from tests.support.clocks import Wall
from tests.support.connector_harness import message
from tests.support.fake_broker import FakeBroker

INBOUND = Place("c", "inbound")
HISTORY = {
    "reason": "http_status",
    "last_status": 503,
    "attempts": 8,
    "delays": 1,
    "first_failure": "1970-01-01T00:00:10+00:00",
    "last_failure": "1970-01-01T00:00:20+00:00",
}


class Walk:
    """A walk that gives its messages two at a time."""

    def __init__(self, deliveries: list[Delivery]) -> None:
        self.left = deliveries
        self.count = len(deliveries)
        self.ended = False

    async def fetch(self) -> list[Delivery]:
        batch, self.left = self.left[:2], self.left[2:]
        return batch

    async def end(self) -> None:
        self.ended = True


class Browser:
    """What ``ParkedMessages`` uses of ``QueueBrowser``, over deliveries of a fake broker."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.queues: dict[str, list[Delivery]] = {}
        self.walks: list[Walk] = []
        self.published: list[tuple[str, bytes, Mapping[str, Any]]] = []
        self.faults: list[Exception] = []

    def park(self, *bodies: bytes, kind: str = "inbound", **headers: Any) -> None:
        deliveries = self.queues.setdefault(f"c.{kind}.parked", [])
        deliveries += [self.broker.delivery(body, HISTORY | headers) for body in bodies]

    async def walk(self, queue: str) -> Walk | None:
        if queue not in self.queues:
            return None
        self.walks.append(Walk(self.queues[queue]))
        return self.walks[-1]

    async def publish(self, queue: str, original: Delivery, headers: Mapping[str, Any]) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.published.append((queue, original.body, headers))

    @property
    def acked(self) -> list[int]:
        return sorted(self.broker.channel.settled)


@pytest.fixture
def browser() -> Browser:
    return Browser()


def parked_messages(browser: Browser, *seen: Any, **options: Any) -> ParkedMessages:
    return ParkedMessages(browser, *seen, wall_clock=Wall(Clock(), 60), **options)  # type: ignore[arg-type]


def result(work: Any) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(found.append)
    return found[0]


EVERYTHING = Selection(tuple(Place("c", kind) for kind in KINDS))


def test_a_summary(browser: Browser) -> None:
    """A list shows the history and the ids, no text, and of addresses the last four characters."""
    sent = message("s3cret", from_addr="+27821234567", to_addr="8110")
    parked = Parked.read(INBOUND, browser.broker.delivery(sent.to_json(), HISTORY), 60)
    assert parked.summary() == {
        "id": sent.message_id,
        "kind": "inbound",
        "connector": "c",
        "from": "****4567",
        "to": "8110",
        "user_message_id": None,
        **HISTORY,
        "last_error": None,
        "destination": None,
        "age": 40,
    }
    event = Event(user_message_id="m", event_type="ack")
    parked = Parked.read(Place("c", "event"), browser.broker.delivery(event.to_json()), 60)
    assert (parked.id, parked.summary()["user_message_id"]) == (event.event_id, "m")


@given(st.binary(max_size=50))
def test_any_body(body: bytes) -> None:
    """Any body has an id, the same each time, and a summary."""
    delivery = FakeBroker().delivery(body)
    for kind in KINDS:
        parked = Parked.read(Place("c", kind), delivery, 60)
        assert parked.id == Parked.read(Place("c", kind), delivery, 61).id
        assert parked.summary()["reason"] == "error"


def test_masking() -> None:
    """An address is masked but for its last four characters, so that its length is not told."""
    found = [masked(each) for each in (None, "", "1234", "12345", "+27821234567")]
    assert found == [None, "", "1234", "****2345", "****4567"]


def test_selecting(browser: Browser) -> None:
    """A selection is by queue, reason and ids; its limit counts over all queues."""
    messages = [message(str(number)) for number in range(5)]
    browser.park(*[each.to_json() for each in messages])
    browser.park(b"dns", reason="dns")
    browser.park(b"event", kind="event")
    parked, seen = parked_messages(browser), []

    def listed(selection: Selection, limit: int = 100) -> int:
        seen.clear()
        return int(result(parked.each(selection, limit, lambda each: seen.append(each.delivery.body))))

    assert listed(EVERYTHING) == 7
    assert listed(EVERYTHING, 3) == 3
    assert listed(Selection((INBOUND,), reason="dns")) == 1
    assert seen == [b"dns"]
    ids = frozenset(each.message_id for each in messages[1:3])
    assert listed(Selection((INBOUND,), ids=ids)) == 2
    assert seen == [each.to_json() for each in messages[1:3]]
    assert listed(Selection((Place("other", "inbound"),))) == 0
    assert not browser.acked
    assert all(walk.ended for walk in browser.walks)


def test_replaying(browser: Browser) -> None:
    """A message goes back to its queue without its history, and is taken when that is confirmed."""
    browser.park(b"a", x=1)
    browser.park(b"b", kind="event")
    seen: list[bytes] = []
    replaying = parked_messages(browser).replay(EVERYTHING, 100, lambda each: seen.append(each.delivery.body))
    assert result(replaying) == 2
    assert browser.published == [("c.inbound", b"a", {"x": 1}), ("c.event", b"b", {})]
    assert browser.acked == [1, 2]
    assert seen == [b"a", b"b"]


def test_replaying_what_fails(browser: Browser) -> None:
    """A message that has no queue stays parked, those beside it go back, and the error names the queue."""
    browser.park(b"a", b"b")
    browser.faults = [Unroutable("no queue for the message")]
    failure = result(parked_messages(browser).replay(EVERYTHING, 100, lambda each: None))
    assert str(failure.value) == "there is no queue c.inbound to put messages back into"
    assert browser.acked == [2]
    assert browser.walks[0].ended


def test_headers_that_cannot_be_written(browser: Browser) -> None:
    """A message whose headers can't be written again goes back without them."""
    browser.park(b"a", x=1)
    browser.faults = [ValueError("no form")]
    assert result(parked_messages(browser).replay(EVERYTHING, 100, lambda each: None)) == 1
    assert browser.published == [("c.inbound", b"a", {})]


def test_purging(browser: Browser) -> None:
    """Purging takes the selected messages and publishes nothing; progress is reported."""
    browser.park(b"a", b"b", b"c")
    progress: list[tuple[int, int]] = []
    parked = parked_messages(browser, lambda place, seen, count: progress.append((seen, count)))
    assert result(parked.purge(EVERYTHING, 100, lambda each: None)) == 3
    assert browser.acked == [1, 2, 3]
    assert progress == [(2, 3), (3, 3)]
    assert not browser.published


DELAYS = (delay_queue(300.0), deferred_queue())


def delay(browser: Browser, queue: Queue, connector: str, body: bytes, **headers: Any) -> None:
    """Put a message of a connector into a delay queue."""
    delivery = browser.broker.delivery(body, HISTORY | headers)
    deliver = spec.Basic.Deliver("t", 1, False, queue.name, f"{connector}.inbound")
    delivery.method = frame.Method(1, deliver).marshal()[7:-1]
    browser.queues.setdefault(queue.name, []).append(delivery)


def test_delayed_messages(browser: Browser) -> None:
    """Delayed messages of all connectors share queues: those of the chosen ones are seen, with their next attempt, and
    go back into their queues with their history, since no window begins anew."""
    for queue in DELAYS:
        for connector in ("c", "other"):
            delay(browser, queue, connector, message(connector).to_json())
    seen: list[Parked] = []
    selection = Selection.of(["c"], delay_queues=DELAYS)
    assert result(parked_messages(browser).each(selection, 100, seen.append)) == 2
    summaries = [each.summary() for each in seen]
    assert [each["connector"] for each in summaries] == ["c", "c"]
    assert [(each["queue"], each["next_try"]) for each in summaries] == [
        ("junebug-turn.delay.5m", "1970-01-01T00:05:20+00:00"),
        ("junebug-turn.deferred", "1970-01-01T00:05:20+00:00"),
    ]
    assert result(parked_messages(browser).replay(selection, 1, seen.append)) == 1
    assert browser.published == [("c.inbound", seen[0].delivery.body, HISTORY)]
    assert result(parked_messages(browser).purge(selection, 100, seen.append)) == 2
    assert browser.acked == [1, 3]


def test_a_limit_of_looks(browser: Browser) -> None:
    """A walk with a limit looks at the first messages of each queue, and notes that it hasn't seen all."""
    for queue in DELAYS:
        for _ in range(6):
            delay(browser, queue, "c", b"x")
    selection = Selection.of(["c"], delay_queues=DELAYS)
    for most, seen, complete in ((4, 8, False), (6, 12, True)):
        messages = parked_messages(browser, None, most=most)
        assert result(messages.each(selection, 100, lambda each: None)) == seen
        assert messages.complete is complete


def test_a_worn_out_one(browser: Browser) -> None:
    """A delayed message that was looked at often gets no copy, which would wait its whole time again: its queue returns
    it."""
    delay(browser, DELAYS[0], "c", b"x", **{"x-delivery-count": DELIVERY_LIMIT})
    browser.queues[DELAYS[0].name][0].redelivered = True
    selection = Selection.of(["c"], delay_queues=DELAYS)
    assert result(parked_messages(browser).each(selection, 100, lambda each: None)) == 1
    assert not browser.published


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        ({"destination": "https://rapidpro.example:443"}, True),
        ({"destination": "https://rapidpro.example"}, True),
        ({"destination": "https://rapidpro.example/"}, True),
        ({"destination": "rapidpro.example"}, True),
        ({"destination": "rapidpro.example:443"}, True),
        ({"destination": "rapidpro"}, False),
        ({"destination": ""}, False),
        ({"older_than": 40}, True),
        ({"older_than": 41}, False),
        ({"newer_than": 40}, True),
        ({"newer_than": 39}, False),
    ],
)
def test_choice(browser: Browser, choice: dict[str, Any], taken: bool) -> None:
    """Parked messages are chosen by their destination and by how long ago they failed."""
    headers = HISTORY | {"destination": "https://rapidpro.example:443"}
    parked = Parked.read(INBOUND, browser.broker.delivery(message().to_json(), headers), 60)
    assert parked.summary()["destination"] == "https://rapidpro.example:443"
    assert Selection.of(["c"], **choice).takes(parked) is taken
    # One that was parked by a former version has no destination.
    parked = Parked.read(INBOUND, browser.broker.delivery(message().to_json(), HISTORY), 60)
    assert Selection.of(["c"], destination="").takes(parked) is False
