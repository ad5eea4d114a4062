"""Plain text as the form of an API's errors."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from junebug_turn.http.mounts import Mount
from junebug_turn.http.text import line_of_text
from tests.support.http_harness import Client, make_site


def test_error_in_text() -> None:
    """A face whose errors are bytes has them written as plain text, also those of a request that isn't complete."""
    mount = Mount(Resource(), answer=lambda answer: (answer.status, line_of_text(f"no: {answer.type}")))
    client = Client(make_site({"/text": mount}, Clock(), max_body_size=10))
    client.request("POST", "/text/x", b"x" * 11)
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"content-type: text/plain; charset=utf-8" in head.lower()
    assert body == b"no: BodyTooLarge"


@pytest.mark.parametrize(("text", "line"), [("a\r\nb\tc ", b"a b c"), ("\ud800", b"?"), ("ü", "ü".encode())])
def test_line(text: str, line: bytes) -> None:
    """A line is one line, in UTF-8, whatever is in it."""
    assert line_of_text(text) == line
