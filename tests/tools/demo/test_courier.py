"""Courier's rules, as the demo and the tests have them."""

from __future__ import annotations

import pytest

from tools.demo import courier
from tools.demo.courier import CHANNEL, FORM, Outgoing

EX, KN = f"/c/ex/{CHANNEL}", f"/c/kn/{CHANNEL}"
UUID = "0199d7e2-7a3b-7c0e-9d6c-5a1f0e2b3c4d"


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        (f"{EX}/receive", b"from=%2B27&text=&date=2026-01-02T03:04:05.000123Z", 200),
        (f"{EX}/receive", b"sender=27&time=2026-01-02T03:04:05%2B02:00", 200),
        (f"{EX}/receive?from=27", b"", 200),
        (f"{EX}/receive", b"text=hi", 400),
        (f"{EX}/receive", b"from=27&date=2026-01-02+03:04:05", 400),
        (f"{EX}/receive", b"from=27&date=2026-13-02T03:04:05Z", 400),
        (f"{EX}/sent", b"id=12345", 200),
        (f"{EX}/failed", f"id={UUID}".encode(), 200),
        (f"{EX}/delivered?uuid=" + UUID, b"", 200),
        (f"{EX}/sent", b"id=x", 400),
        (f"{EX}/sent", b"", 400),
        (f"{EX}/other", b"id=12345", 404),
        ("/c/ex/another/receive", b"from=27", 400),
        (f"{KN}/receive", b"id=1&ts=1767323045&sender=27&message=hi", 200),
        (f"{KN}/receive", b"id=1&ts=1767323045&sender=27", 200),
        (f"{KN}/receive", b"id=1&ts=now&sender=27", 400),
        (f"{KN}/receive", b"ts=1767323045&sender=27", 400),
        (f"{KN}/status?id=12345&status=1", b"", 200),
        (f"{KN}/status?id=12345&status=3", b"", 400),
        (f"{KN}/sent", b"id=12345", 404),
    ],
)
def test_answers(target: str, body: bytes, status: int) -> None:
    """What is required is required, a date is RFC 3339, and an unknown id is answered 200."""
    answered, answer = courier.answer_to("POST", target, FORM, body)
    assert answered == status
    assert set(answer) == {"message", "data"}


def test_json_is_not_read() -> None:
    """A body in JSON is not read."""
    assert courier.answer_to("POST", f"{EX}/receive", "application/json", b'{"from": "27"}')[0] == 400


@pytest.mark.parametrize(
    ("numeric", "id", "status"), [(True, UUID, 400), (False, "12345", 400), (False, UUID, 200)]
)
def test_ids(numeric: bool, id: str, status: int) -> None:
    """The older families want numbers, the current one wants UUIDs."""
    assert courier.answer_to("POST", f"{EX}/sent", FORM, f"id={id}".encode(), numeric=numeric)[0] == status


@pytest.mark.parametrize(
    ("family", "status", "body", "outcome"),
    [
        ("current", 200, "accepted", "wired"),
        ("current", 200, "<html>", "failed"),
        ("stable", 200, "<html>", "retried"),
        ("current", 503, "", "retried"),
        ("current", 400, "", "failed"),
        ("weni", 400, "", "retried"),
    ],
)
def test_judged(family: str, status: int, body: str, outcome: str) -> None:
    """Each family has its own view of an answer."""
    assert courier.judged(family, status, body, "accepted") == outcome


def test_parts() -> None:
    """A long text is split near spaces, by bytes; its quick replies are on the last part, its id is on each."""
    message = Outgoing(text="ab cd ef", to="+27", id="1", quick_replies=["Yes"])
    made = courier.external("stable", "/send?id={{id}}", message, max_length=6)
    assert [(each.url, each.body.split(b"&to=")[0], b"quick_reply" in each.body) for each in made] == [
        ("/send?id=1", b"id=1&text=ab+cd", False),
        ("/send?id=1", b"id=1&text=ef", True),
    ]


def test_unknown_variable() -> None:
    """A family leaves a variable that it doesn't know as it is."""
    (made,) = courier.external("stable", "/send?id={{uuid}}", Outgoing(text="hi", to="+27"))
    assert made.url == "/send?id={{uuid}}"


def test_kannel() -> None:
    """A text that isn't ASCII is UTF-16BE, in older families UTF-8 with its charset."""
    message = Outgoing(text="☺", to="+27", id=UUID)
    new, old = (
        courier.kannel(family, "/s", message, "http://r/c/kn/x").url for family in ("current", "stable")
    )
    assert "coding=2&text=%26%3A" in new
    assert "coding=2&charset=utf8&text=%E2%98%BA" in old
    assert f"status%3Fuuid%3D{UUID}%26status%3D%25d" in new
    assert f"status%3Fid%3D{UUID}%26status%3D%25d" in old
