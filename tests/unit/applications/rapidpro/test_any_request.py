"""Any bytes in any parameter of the send URL."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from junebug_turn.applications.rapidpro import TYPE
from junebug_turn.messages.vumi import Message
from tests.support import strategies
from tests.support.application_harness import Face, done
from tests.support.configurations import RAPIDPRO
from tests.support.http_harness import Response

NAMES = ("id", "uuid", "to", "from", "text", "session_status", "quick_reply", "quick_replies", "channel", "x")
values = st.binary(max_size=20) | st.sampled_from(
    [b"", b"W", b"C", b"+27820000001", b"hi", b'["a"]', b"{{id}}"]
)
forms = st.dictionaries(st.sampled_from(NAMES), st.lists(values, min_size=1, max_size=3), max_size=8)
objects = st.dictionaries(st.sampled_from(NAMES), strategies.json_values, max_size=8)
bodies = st.one_of(
    forms.map(lambda form: urlencode(form, doseq=True).encode()),
    objects.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
)
types = st.sampled_from(["", "application/json", "application/x-www-form-urlencoded", "text/xml", "\xff;="])


def check(face: Face, response: Response, published: int) -> None:
    """The answer has RapidPro's form: accepted, and published; or what is wrong, and nothing is."""
    if response.status == 200:
        assert set(response.body) == {"message_id", "status"}
        return
    assert response.status in (400, 413)
    assert set(response.body) == {"error"}
    assert set(response.body["error"]) == {"type", "message"}
    assert len(face.published) == published


@settings(max_examples=300)
@given(st.sampled_from(["GET", "POST", "PUT"]), forms, bodies, types)
def test_any_request(method: str, query: Any, body: bytes, content_type: str) -> None:
    """Whatever is in the parameters, the answer has the face's form, and is never a 500."""
    face = Face.of(TYPE, RAPIDPRO)
    opened = Message(
        to_addr="*120#",
        from_addr="+27820000001",
        transport_name="t",
        transport_type="ussd",
        session_event="new",
    )
    done(face.application.handle_inbound(opened))
    path = f"/send?{urlencode(query, doseq=True)}"
    headers = {"Content_Type": content_type} if content_type else {}
    for _ in range(2):
        check(face, face.ask(method, path, body, **headers), len(face.published))


@settings(max_examples=50)
@given(strategies.messages)
def test_any_inbound_message(message: Message) -> None:
    """Whatever a transport sends is delivered as a form, or is a session's close."""
    face = Face.of(TYPE, RAPIDPRO)
    done(face.application.handle_inbound(message))
    expected = [] if message.session_event == "close" else [{"from", "text", "date"}]
    assert [set(form) for _, form, _ in face.deliverer.delivered] == expected
