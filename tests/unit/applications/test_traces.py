"""The trace of a message in each application: kept with it, and gone on with by its events and the answers to it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from junebug_turn.applications.base import ApplicationType
from junebug_turn.applications.registry import APPLICATION_TYPES
from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.messages.vumi import Event, Message
from tests.support.application_harness import Face, done
from tests.support.configurations import JUNEBUG, KANNEL, RAPIDPRO, TURN

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
URL = "http://client/events"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "junebug": {**JUNEBUG, "default_from_addr": "8110"},
    "turn": {**TURN, "turn_api_url": "http://turn"},
    "rapidpro": RAPIDPRO,
    "kannel": {**KANNEL, "default_from_addr": "8110"},
}


@pytest.fixture(params=APPLICATION_TYPES, ids=lambda kind: kind.name)
def face(request: pytest.FixtureRequest) -> Face:
    kind: ApplicationType = request.param
    return Face.of(kind, CONFIGURATIONS[kind.name])


def send(face: Face, **headers: str) -> tuple[str, Any]:
    """Have a message sent; its id, and its AMQP headers."""
    name = face.application.options.path_option
    if name == "vumi_api_path":
        body = json.dumps({"to": "+27", "turn": {"text": {"body": "c"}}}).encode()
        signed = {HEADER.replace("-", "_"): sign(b"hm4c", body).decode(), **headers}
        answer = face.ask("POST", "/messages", body, **signed)
    elif face.application.options.connector_name == "flows":
        answer = face.ask("GET", f"/send?{urlencode({'to': '+27', 'text': 'c', 'id': '7'})}", **headers)
    elif face.application.options.connector_name == "kannel":
        query = urlencode({"to": "+27", "text": "c", "dlr-url": URL, "dlr-mask": 31})
        answer = face.ask("GET", f"/cgi-bin/sendsms?{query}", **headers)
    else:
        body = json.dumps({"to": "+27", "content": "c", "event_url": URL}).encode()
        answer = face.ask("POST", "/messages", body, **headers)
    assert answer.status < 300
    return face.published[-1].message_id, face.broker.published[-1].headers


def answer(**fields: Any) -> Message:
    return Message(
        to_addr="8110", from_addr="+27", transport_name="t", transport_type="sms", content="c", **fields
    )


@pytest.mark.parametrize("parent", [PARENT, "", "nonsense"])
def test_trace(face: Face, parent: str) -> None:
    """A traceparent is taken from the request, or made new; it goes to AMQP, and with the delivery of the message's
    events and of the answers to it."""
    message_id, headers = send(face, **({"traceparent": parent} if parent else {}))
    trace_id = headers["traceparent"].split("-")[1]
    assert (trace_id == TRACE) == (parent == PARENT)
    done(face.application.handle_event(Event(user_message_id=message_id, event_type="ack")))
    done(face.application.handle_inbound(answer(in_reply_to=message_id)))
    assert [trace and trace.trace_id for trace in face.deliverer.traces] == [trace_id, trace_id]


def test_unknown_message(face: Face) -> None:
    """An answer to a message that isn't known has a trace of its own; a store that is away ends no delivery."""
    done(face.application.handle_inbound(answer(in_reply_to="unknown")))
    face.break_store("fetch_outbound")
    done(face.application.handle_inbound(answer(in_reply_to="unknown")))
    first, second = (trace and trace.trace_id for trace in face.deliverer.traces)
    assert first != second
    assert None not in (first, second)
