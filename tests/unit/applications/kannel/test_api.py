"""sendsms, asked as RapidPro's Kannel channel and other programs ask it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from twisted.python.failure import Failure

from junebug_turn.applications.kannel import TYPE
from junebug_turn.errors import Unroutable
from tests.support.application_harness import Face
from tests.support.configurations import KANNEL
from tests.support.http_harness import Response
from tools.demo import courier
from tools.demo.courier import FAMILIES, Outgoing

SENDSMS = "/cgi-bin/sendsms"
ACCEPTED = (202, "0: Accepted for delivery")
HELLO = {"to": "+27820000001", "from": "8110", "text": "hi"}


def face(**options: Any) -> Face:
    return Face.of(TYPE, KANNEL, **options)


def get(asked: Face, path: str = SENDSMS, **parameters: str) -> tuple[int, Any]:
    response = asked.ask("GET", f"{path}?{urlencode(HELLO | parameters)}")
    return response.status, response.body


def answered(response: Response) -> tuple[int, Any]:
    return response.status, response.body


@pytest.mark.parametrize("text", ["Simple Message", "Unicode ☺"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, text: str) -> None:
    """The request of each family of RapidPro is accepted, and its text is read by its coding."""
    asked = face(api_auth={"users": {"Username": "Pass word"}})
    message = Outgoing(text=text, to="+250788383383", id=courier.new_id(family))
    request = courier.kannel(family, SENDSMS, message, "https://rapidpro/c/kn/1", "Username", "Pass word")
    response = asked.ask(request.method, request.url)
    assert answered(response) == ACCEPTED
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    (published,) = asked.published
    assert (published.to_addr, published.from_addr, published.content) == ("+250788383383", "+8864", text)
    assert courier.judged(family, response.status, response.body) == "wired"


@pytest.mark.parametrize("path", [SENDSMS, f"{SENDSMS}/", "/send", "/send/"])
def test_paths(path: str) -> None:
    """Both paths work, with and without a slash."""
    assert get(face(), path) == ACCEPTED


def test_literal_request() -> None:
    """A request as courier's own tests have it."""
    asked = face()
    dlr = quote("https://localhost/c/kn/8eb23e93/status?id=10&status=%d", safe="")
    query = (
        f"dlr-mask=27&dlr-url={dlr}&from=2020&password=Password&priority=1&text=Simple+Message&to=%2B250788383383"
        "&username=Username"
    )
    assert answered(asked.ask("GET", f"{SENDSMS}?{query}")) == ACCEPTED
    (message,) = asked.published
    assert (message.to_addr, message.from_addr, message.content) == (
        "+250788383383",
        "2020",
        "Simple Message",
    )


@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        ("", urlencode(HELLO).encode(), {"Content_Type": "application/x-www-form-urlencoded"}),
        ("", urlencode(HELLO).encode(), {}),
        ("to=%2B27820000001&from=8110", b"text=hi&to=other", {}),
        (
            "",
            b"hi",
            {"Content_Type": "text/plain", "X_Kannel_To": "+27820000001", "X_Kannel_From": "8110"},
        ),
        (
            "",
            b"\0h\0i",
            {
                "Content_Type": "application/octet-stream",
                "X_Kannel_To": "+27820000001",
                "X_Kannel_From": "8110",
                "X_Kannel_Coding": "2",
            },
        ),
        (
            "to=%2B27820000001&from=8110",
            b"h\0i\0",
            {"Content_Type": 'text/plain; charset="UTF-16LE"'},
        ),
    ],
)
def test_post(query: str, body: bytes, headers: dict[str, str]) -> None:
    """A POST has a form, or the text as its body and the rest in Kannel's headers."""
    asked = face()
    assert answered(asked.ask("POST", f"{SENDSMS}?{query}", body, **headers)) == ACCEPTED
    (message,) = asked.published
    assert (message.to_addr, message.from_addr, message.content) == ("+27820000001", "8110", "hi")


def test_other_content_type() -> None:
    """A body of another content type is refused in Kannel's words."""
    assert answered(face().ask("POST", SENDSMS, b"<x/>", Content_Type="text/xml")) == (
        400,
        "Invalid content-type",
    )


@pytest.mark.parametrize(
    ("parameters", "headers"),
    [
        ({"username": "u", "password": "p"}, {}),
        ({"user": "u", "pass": "p"}, {}),
        ({}, {"Authorization": "Basic dTpw"}),
        ({}, {"Authorization": "Token t0ken"}),
        ({}, {"Content_Type": "text/plain", "X_Kannel_Username": "u", "X_Kannel_Password": "p"}),
    ],
)
def test_credentials(parameters: dict[str, str], headers: dict[str, str]) -> None:
    """User and password are parameters or Kannel's headers, or stand in an Authorization header."""
    asked = face(api_auth={"users": {"u": "p"}, "tokens": ["t0ken"]})
    response = asked.ask("POST", f"{SENDSMS}?{urlencode(HELLO | parameters)}", b"", **headers)
    assert answered(response) == ACCEPTED


@pytest.mark.parametrize(
    ("parameters", "headers"),
    [
        ({}, {}),
        ({"username": "u", "password": "q"}, {}),
        ({"username": "", "password": "t0ken"}, {}),
        ({"username": "u", "password": "p"}, {"Authorization": "Token wrong"}),
    ],
)
def test_wrong_credentials(parameters: dict[str, str], headers: dict[str, str]) -> None:
    """Without known credentials nothing is sent, and nothing of the rate limit is used up."""
    asked = face(api_auth={"users": {"u": "p"}, "tokens": ["t0ken"]}, rate_limit=0.01)
    for _ in range(3):
        response = asked.ask("GET", f"{SENDSMS}?{urlencode(HELLO | parameters)}", **headers)
        assert answered(response) == (403, "Authorization failed for sendsms")
    assert asked.published == []
    assert get(asked, username="u", password="p") == ACCEPTED
    assert get(asked, username="u", password="p") == (503, "Temporal failure, try again later.")


def test_several_receivers() -> None:
    """Each receiver has a message of its own."""
    asked = face()
    assert get(asked, to="+27820000001 +27820000002") == ACCEPTED
    first, second = asked.published
    assert (first.to_addr, second.to_addr) == ("+27820000001", "+27820000002")
    assert first.message_id != second.message_id


def test_some_receivers_fail() -> None:
    """When some of the messages fail the answer tells which; the others are sent."""
    asked = face()
    asked.broker.confirming = False
    client = asked.begin("GET", f"{SENDSMS}?{urlencode(HELLO | {'to': '271 272 273'})}")
    first, second, third = asked.broker.published
    second.publication.confirmed.errback(Failure(Unroutable("no queue")))
    first.publication.confirmed.callback(None)
    assert not client.received
    third.publication.confirmed.callback(None)
    assert answered(client.response()) == (202, "0: Accepted for delivery. Failed for: 272")


def test_all_receivers_fail() -> None:
    """When all fail the answer is that of the first."""
    asked = face()
    asked.broker.confirming = False
    client = asked.begin("GET", f"{SENDSMS}?{urlencode(HELLO | {'to': '271 272'})}")
    for published in asked.broker.published:
        published.publication.confirmed.errback(Failure(Unroutable("no queue")))
    response = client.response()
    assert answered(response) == (503, "Temporal failure, try again later.")
    assert "retry-after" in response.headers


def test_idempotency_key() -> None:
    """With an Idempotency-Key a request is sent once, and the key is for one request."""
    asked = face()
    for _ in range(2):
        response = asked.ask("GET", f"{SENDSMS}?{urlencode(HELLO)}", Idempotency_Key="k")
        assert answered(response) == ACCEPTED
    assert len(asked.published) == 1
    other = asked.ask("GET", f"{SENDSMS}?{urlencode(HELLO | {'text': 'other'})}", Idempotency_Key="k")
    assert other.status == 422


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/other", 404), ("PUT", SENDSMS, 405), ("GET", "/%ff", 404), ("GET", f"{SENDSMS}?text=hi", 400)],
)
def test_errors(method: str, path: str, status: int) -> None:
    """Every error is a line of text."""
    response = face().ask(method, path)
    assert response.status == status
    assert isinstance(response.body, str)


def test_bug() -> None:
    """A bug is a line without details."""
    asked = face()

    async def fail(*args: Any) -> None:
        raise RuntimeError("secret")

    asked.store.store_outbound = fail  # type: ignore[method-assign]
    assert get(asked) == (500, "internal server error")
    assert get(asked, to="271 272") == (500, "internal server error")
