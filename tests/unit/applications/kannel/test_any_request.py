"""Any bytes in any parameter of sendsms."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from junebug_turn.applications.kannel import TYPE
from junebug_turn.messages.vumi import Event, Message
from tests.support import strategies
from tests.support.application_harness import Face, done
from tests.support.configurations import KANNEL

NAMES = (
    "username",
    "password",
    "from",
    "to",
    "text",
    "coding",
    "charset",
    "dlr-mask",
    "dlr-url",
    "priority",
    "udh",
)
values = st.binary(max_size=20) | st.sampled_from(
    [
        b"",
        b"0",
        b"1",
        b"2",
        b"27",
        b"+27820000001",
        b"271 272+273",
        b"utf-16",
        b"http://h/%d%",
        b"http://h/%p?a=%F",
    ]
)
forms = st.dictionaries(st.sampled_from(NAMES), st.lists(values, min_size=1, max_size=2), max_size=10)
types = st.sampled_from(
    ["", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream", "\xff"]
)


@settings(max_examples=300)
@given(st.sampled_from(["GET", "POST"]), forms, st.binary(max_size=40), types)
def test_any_request(method: str, query: Any, body: bytes, content_type: str) -> None:
    """Whatever is in the parameters, the answer is a line of text, never a 500, and each report can be delivered."""
    face = Face.of(TYPE, KANNEL, default_from_addr="8110")
    headers = {"Content_Type": content_type} if content_type else {}
    response = face.ask(method, f"/send?{urlencode(query, doseq=True)}", body, **headers)
    assert isinstance(response.body, str)
    assert response.status in (202, 400)
    assert bool(face.published) == (response.status == 202)
    for message in face.published:
        done(face.application.handle_event(Event(user_message_id=message.message_id, event_type="ack")))


@settings(max_examples=50)
@given(strategies.messages, st.sampled_from(["post", "get"]))
def test_any_inbound_message(message: Message, method: str) -> None:
    """Whatever a transport sends is delivered, or is a session's close."""
    url = "http://h/%P?a=%a&b=%b&p=%p&q=%q&Q=%Q&t=%t&T=%T&I=%I"
    face = Face.of(TYPE, KANNEL, receive_url=url, receive_method=method)
    done(face.application.handle_inbound(message))
    assert len(face.deliverer.delivered) == (message.session_event != "close")
