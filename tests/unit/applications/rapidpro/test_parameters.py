"""Parameters of RapidPro's requests, in the URL, a form and JSON."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.applications.rapidpro.parameters import Parameters
from junebug_turn.errors import InvalidBody, JsonDecodeError
from junebug_turn.http.forms import read_form


def read(query: str = "", body: bytes = b"", media_type: str = "") -> Parameters:
    return Parameters.read(read_form(query.encode()), body, media_type, 10)


@pytest.mark.parametrize(
    "parameters",
    [
        read("text=%C3%BC+b"),
        read(body=b"text=%C3%BC+b", media_type="application/x-www-form-urlencoded"),
        read(body=b"text=%C3%BC+b"),
        read(body='{"text": "ü b"}'.encode(), media_type="application/json"),
        read(body=' {"text": "ü b"}'.encode(), media_type="text/plain"),
        read(body='{"text": "ü b"}'.encode(), media_type="application/vnd.x+json"),
        read("text=%C3%BC+b", b"text=other"),
        read("text=%C3%BC+b", b'{"text": "other"}'),
        read("text=%C3%BC+b", b'{"text": 7}'),
        read("text=%C3%BC+b&text=second"),
    ],
)
def test_places(parameters: Parameters) -> None:
    """A parameter is read from the URL, a form or JSON; the URL wins, and the first of several values."""
    assert parameters.text("text") == "ü b"
    assert parameters.text("other") is None


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (read("quick_reply=Yes&quick_reply=No&quick_reply="), ["Yes", "No"]),
        (read(body=b"quick_reply=Yes&quick_reply=No"), ["Yes", "No"]),
        (read(body=b'{"quick_replies": ["Yes", "No"]}'), ["Yes", "No"]),
        (read(body=b'{"quick_replies": []}'), []),
        (read(body=b'{"quick_replies": null, "quick_reply": "Yes"}'), ["Yes"]),
        (read(body=b"quick_replies=%5B%22Yes%22,%22No%22%5D"), ["Yes", "No"]),
        (read("quick_replies=%5B1%5D"), ["[1]"]),
        (read("quick_replies=%5BYes"), ["[Yes"]),
        (read("quick_replies=%7B%7Bquick_replies%7D%7D"), []),
    ],
)
def test_texts(parameters: Parameters, expected: list[str]) -> None:
    """Quick replies come as several values, or as an array; empty ones are none."""
    assert parameters.texts("quick_reply", "quick_replies") == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (read("id=123"), "123"),
        (read(body=b'{"id": 123}'), "123"),
        (read(body=b'{"id": "0199d7e2-7a3b"}'), "0199d7e2-7a3b"),
        (read("id=7", b'{"id": 123}'), "7"),
        (read("id=%7B%7Bid%7D%7D"), ""),
        (read(body=b"id="), ""),
        (read(), ""),
    ],
)
def test_id(parameters: Parameters, expected: str) -> None:
    """An id is a text or a number, and stays as it is; a variable that RapidPro didn't fill in is none."""
    assert parameters.id("id") == expected


@pytest.mark.parametrize(
    ("body", "media_type", "error"),
    [
        (b"{", "application/json", JsonDecodeError),
        (b"to=27", "application/json", JsonDecodeError),
        (b"[]", "application/json", InvalidBody),
        (b"a&" * 1001, "", InvalidBody),
    ],
)
def test_unreadable(body: bytes, media_type: str, error: type[Exception]) -> None:
    """A body that can't be read is refused."""
    with pytest.raises(error):
        read(body=body, media_type=media_type)


@pytest.mark.parametrize("value", [7, True, ["a"], {}, b"\xff"])
def test_wrong_type(value: Any) -> None:
    """A value that is no text in UTF-8 is refused, and its name is told."""
    parameters = Parameters({}, {"text": [value] if isinstance(value, bytes) else value})
    with pytest.raises(InvalidBody, match="'text' must be"):
        parameters.text("text")
    with pytest.raises(InvalidBody, match="'q' must be"):
        Parameters({}, {"q": [value, {}]}).texts("q")


@pytest.mark.parametrize("value", [True, 1.5, []])
def test_wrong_id(value: Any) -> None:
    """Nothing but a text and a whole number is an id."""
    with pytest.raises(InvalidBody, match="'id' must be"):
        Parameters({}, {"id": value}).id("id")
