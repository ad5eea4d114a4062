"""Bodies and lines that the pages show: they are those that the daemon takes, answers, sends and logs."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from junebug_turn.applications import junebug, kannel, rapidpro
from junebug_turn.applications.junebug.messages import event_to_json, message_to_json, status_to_json
from junebug_turn.errors import Unroutable
from junebug_turn.messages.vumi import Event, Message, TransportStatus
from tests.support.application_harness import Face
from tests.support.configurations import JUNEBUG, KANNEL, RAPIDPRO
from tests.support.log import Log
from tests.support.middlewares import made, result
from tests.support.middlewares import message as any_message
from tests.support.pages import block
from tests.unit.daemon.operators.test_events import Watched

CHANNEL = {**JUNEBUG, "connector_name": "my_channel", "base_url_path": "/channels/my-channel"}
EXAMPLE = {"destination": "https://rapidpro.example.org:443", "fault": "timeout"}


def _request(start: str) -> tuple[str, str, dict[str, str], bytes]:
    """A request as docs/junebug.md prints it: method, path, headers and body."""
    head, _, body = block("docs/junebug.md", start).strip().partition("\n\n")
    line, *fields = head.splitlines()
    method, path = line.split()
    return method, path, dict(field.split(": ", 1) for field in fields), body.encode()


def _answer(start: str) -> tuple[int, str, Any]:
    """An answer in the same way: status, content type and body."""
    head, _, body = block("docs/junebug.md", start).strip().partition("\n\n")
    line, field = head.splitlines()
    return int(line.split()[1]), field.removeprefix("Content-Type: "), json.loads(body)


def _asked(body: bytes, **headers: str) -> tuple[int, str, Any]:
    response = Face.of(junebug.TYPE, CHANNEL).ask("POST", "/messages", body, **headers)
    return response.status, response.headers["content-type"], response.body


def test_a_message() -> None:
    """The request of the page gets the answer of the page, but for the id and the time."""
    method, path, headers, body = _request("POST /channels/")
    assert (method, path) == ("POST", "/channels/my-channel/messages")
    status, kind, answer = _asked(body, **headers)
    changing = {name: answer["result"][name] for name in ("message_id", "timestamp")}
    expected = _answer("HTTP/1.1 201")
    assert expected[2]["result"].keys() >= changing.keys()
    expected[2]["result"] |= changing
    assert (status, kind, answer) == expected


def test_a_refused_message() -> None:
    """The same request without its content gets the error of the page."""
    body = json.loads(_request("POST /channels/")[3])
    del body["content"]
    assert _asked(json.dumps(body).encode()) == _answer("HTTP/1.1 400")


def test_an_inbound_message() -> None:
    """The request to a receiver is what the daemon POSTs for such a message."""
    _, _, headers, body = _request("POST /c/jn/")
    shown = json.loads(body)
    message = Message(
        to_addr=shown["to"],
        from_addr=shown["from"],
        transport_name=shown["channel_id"],
        transport_type="ussd",
        message_id=shown["message_id"],
        timestamp=datetime.fromisoformat(shown["timestamp"]),
        content=shown["content"],
        session_event=shown["channel_data"]["session_event"],
    )
    assert message_to_json(message, "my_transport") == shown
    assert headers["webhook-id"] == shown["message_id"]


def test_an_event() -> None:
    """The request with an event is what the daemon POSTs for a nack."""
    shown = json.loads(_request("POST /events")[3])
    event = Event(
        user_message_id=shown["message_id"],
        event_type="nack",
        nack_reason="no credit",
        timestamp=datetime.fromisoformat(shown["timestamp"]),
    )
    assert event_to_json(event, "my_channel") == shown


def test_a_status_of_a_transport() -> None:
    """The body for status_url has the fields that the daemon POSTs."""
    shown = json.loads(block("docs/junebug.md", '{"channel_id"'))
    face = Face.of(junebug.TYPE, {**CHANNEL, "status_url": "http://watch/s"})
    fields = {name: shown[name] for name in ("component", "status", "type", "message", "details")}
    face.broker.deliver("my_channel.status.status", TransportStatus(**fields).to_json())
    assert [body for _, body, _ in face.deliverer.delivered] == [shown]


def test_the_status_of_a_message() -> None:
    """The answer with the status of a message has the fields of a real one."""
    shown = json.loads(block("docs/caches.md", '{"status": 200'))
    event = Event(user_message_id="m", event_type="ack", timestamp=datetime(2030, 1, 1, 10))
    made_here = status_to_json("m", [event], "sms")
    assert shown["result"].keys() == made_here.keys()
    assert shown["result"]["last_event_timestamp"] == made_here["last_event_timestamp"]
    assert shown["result"]["events"][0]["event_type"] == made_here["events"][0]["event_type"]


def test_several_receivers_of_kannel() -> None:
    """The answer names the receivers whose message failed."""
    line = block("docs/kannel.md", "0: Accepted for delivery. Failed").strip()
    failed = line.partition("Failed for: ")[2].split()
    face = Face.of(kannel.TYPE, KANNEL)
    face.broker.confirming = False
    query = urlencode({"from": "8110", "text": "x", "to": " ".join(["27820000004", *failed])})
    client = face.begin("GET", f"/cgi-bin/sendsms?{query}")
    for published in face.broker.published:
        confirmed = published.publication.confirmed
        if Message.from_json(published.body).to_addr in failed:
            confirmed.errback(Failure(Unroutable("no queue")))
        else:
            confirmed.callback(None)
    assert client.response().body == line


def test_an_error_of_rapidpro() -> None:
    """The error of the page is the answer to a request without a receiver."""
    response = Face.of(rapidpro.TYPE, RAPIDPRO).ask("POST", "/send?text=x")
    assert response.body == json.loads(block("docs/rapidpro.md", '{"error"'))


def test_the_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middleware of the page can be used, and signs."""
    module = ModuleType("signing")
    monkeypatch.setitem(sys.modules, "signing", module)
    exec(block("docs/middlewares.md", "import attrs"), vars(module))
    chain = made({"class_path": "signing.Signature", "outbound_enabled": True, "signature": "The clinic"})
    assert result(chain.outbound(any_message())).content == "c\nThe clinic"


def test_a_line_of_the_log(tmp_path: Path) -> None:
    """The line in JSON has the fields and the order of a real one."""
    shown = json.loads(block("docs/operations.md", '{"time"'))
    text = Log(tmp_path, log_format="json")
    own = ("time", "level", "namespace", "text")
    text.say(
        "Delivered to {origin}, attempt {attempt}",
        LogLevel.info,
        **{name: value for name, value in shown.items() if name not in own},
    )
    (line,) = text.objects
    assert line["text"] == shown["text"]
    assert list(line)[:4] == list(shown)[:4]
    assert line.keys() == shown.keys()


def test_an_operator_event() -> None:
    """The event of the page is what is sent when the circuit of a destination opens."""
    shown = json.loads(block("docs/operations.md", '{"type"'))
    watched = Watched()
    watched.events.startService()
    watched.circuits = {EXAMPLE["destination"]: {"fault": EXAMPLE["fault"]}}
    watched.after(60)
    ((kind, text, details),) = watched.sent
    del details["minor"]
    assert (kind, text, details) == (shown["type"], shown["text"], shown["details"])
    assert re.fullmatch(r"\S+", shown["host"])
