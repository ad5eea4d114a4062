"""The status of a channel."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from junebug_turn.applications.junebug import TYPE
from junebug_turn.applications.junebug.status import channel_status
from junebug_turn.errors import CacheError, DeliveryExhausted
from junebug_turn.messages.vumi import Event, Message, TransportStatus
from tests.support.application_harness import Face, Recorder, done
from tests.support.clocks import wall_clock
from tests.support.configurations import JUNEBUG

QUEUE = "sms.status.status"


def junebug(**options: Any) -> Face:
    return Face.of(
        TYPE, JUNEBUG, **{"default_from_addr": "8110", "status_url": "http://u:p@watch/s"} | options
    )


def status(component: str = "smpp", **fields: Any) -> TransportStatus:
    return TransportStatus(component=component, **{"status": "ok", "type": "bound", "message": "m"} | fields)


def fetch(face: Face, consumers: int | None = 1) -> dict[str, Any]:
    found: dict[str, Any] = done(channel_status("sms", face.store.channel_records(10), consumers))
    return found


def publish(face: Face, *statuses: TransportStatus) -> None:
    for each in statuses:
        assert face.broker.deliver(QUEUE, each.to_json()).called


@pytest.mark.parametrize(
    ("options", "consumed"),
    [({}, True), ({"status_url": None}, False), ({"status_url": None, "transport_status": True}, True)],
)
def test_consumed(options: dict[str, Any], consumed: bool) -> None:
    """The transport's statuses are consumed where they have somewhere to go, or where that is asked for."""
    assert (QUEUE in junebug(**options).broker.handlers) == consumed


def test_status_url() -> None:
    """What the transport publishes is POSTed to status_url with the retry chain, in Junebug's form: six fields."""
    face = junebug()
    publish(face, status(details={"a": 1}))
    ((destination, body, options),) = face.deliverer.delivered
    assert (destination.url, destination.authorization) == ("http://watch/s", b"Basic dTpw")
    assert body == {
        "channel_id": "sms",
        "component": "smpp",
        "status": "ok",
        "type": "bound",
        "message": "m",
        "details": {"a": 1},
    }
    assert (options["kind"], options["configured"], options["policy"].max_retries) == ("status", True, 3)


def test_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status that can't be delivered, or kept, is a warning; the next one goes on."""

    async def fail(*args: Any, **options: Any) -> None:
        raise DeliveryExhausted(
            "503", reason="http_status", last_status=503, attempts=4, first_failure=0, last_failure=0
        )

    async def away(*args: Any) -> None:
        raise CacheError("away")

    monkeypatch.setattr(Recorder, "deliver", fail)
    face = junebug()
    with capturedLogs() as logs:
        publish(face, status())
        assert fetch(face)["components"]["smpp"]["status"] == "ok"
        monkeypatch.setattr(face.store.channel_records(10), "store_status", away)
        publish(face, status(status="down"))
    assert fetch(face)["components"]["smpp"]["status"] == "ok"
    assert [formatEvent(event) for event in logs if event["log_level"] >= LogLevel.info] == [
        "The status of smpp of sms is not delivered: 503",
        "The status of smpp of sms is not kept: away",
        "The status of smpp of sms is not delivered: 503",
    ]


RATES = {
    f"{name}_rate": 0
    for name in (
        "inbound_message",
        "outbound_message",
        "submitted_event",
        "rejected_event",
        "delivery_succeeded",
        "delivery_failed",
        "delivery_pending",
    )
}


@pytest.mark.parametrize(
    ("consumers", "component"),
    [
        (2, ("ok", "consuming", "sms.outbound is consumed")),
        (0, ("down", "not_consuming", "nobody consumes sms.outbound: start the transport of this channel")),
        (None, ("down", "unknown", "the broker does not say who consumes sms.outbound")),
    ],
)
def test_transport(consumers: int | None, component: tuple[str, str, str]) -> None:
    """The component ``transport`` is down with a message while nobody consumes the outbound queue, else ok."""
    face = junebug(status_url=None)
    word, kind, message = component
    assert fetch(face, consumers) == {
        "status": word,
        "components": {
            "transport": {
                "channel_id": "sms",
                "component": "transport",
                "status": word,
                "type": kind,
                "message": message,
                "details": {"consumers": consumers},
            }
        },
        **RATES,
    }


@pytest.mark.parametrize(
    ("words", "worst"),
    [(["ok"], "ok"), (["ok", "degraded"], "degraded"), (["degraded", "down", "ok"], "down")],
)
def test_worst(words: list[str], worst: str) -> None:
    """The status of the channel is the worst one of its components; of each the last status counts."""
    face = junebug()
    publish(face, *(status(str(number), status="down") for number, _ in enumerate(words)))
    publish(face, *(status(str(number), status=word) for number, word in enumerate(words)))
    found = fetch(face)
    assert found["status"] == worst
    assert [found["components"][str(number)]["status"] for number, _ in enumerate(words)] == words
    assert set(found["components"]) == {"transport", *map(str, range(len(words)))}


def test_rates() -> None:
    """Messages of each direction and events of each type are counted, for the seven rates."""
    face = junebug(metric_window=5)
    face.store.channel_records(5).wall_clock = wall_clock(face.clock)
    face.clock.advance(1000)
    for _ in range(5):
        face.ask("POST", "/messages", b'{"to": "1", "content": "c"}')
    assert face.ask("POST", "/messages", b'{"to": 1}').status == 400
    for _ in range(10):
        done(
            face.application.handle_inbound(
                Message(to_addr="8", from_addr="9", transport_name="t", transport_type="sms")
            )
        )
    for kind in ("ack", "nack"):
        done(face.application.handle_event(Event(user_message_id="m", event_type=kind)))
    for word in ("pending", "failed", "delivered"):
        event = Event(user_message_id="m", event_type="delivery_report", delivery_status=word)
        done(face.application.handle_event(event))
    face.clock.advance(5)
    found = fetch(face)
    assert {name: found[name] for name in RATES} == {
        **dict.fromkeys(RATES, 0.2),
        "inbound_message_rate": 2.0,
        "outbound_message_rate": 1.0,
    }
