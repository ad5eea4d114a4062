"""Rendering of media and the like as a text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from junebug_turn.applications.turn.media import MAX_CONTACTS, MAX_LINK, MEDIA, link_of, render
from tests.support.strategies import json_values


@pytest.mark.parametrize("kind", sorted(MEDIA))
def test_media(kind: str) -> None:
    """Media are their caption and their link, a caption alone where there is no link, or nothing."""
    assert render(kind, {"link": "https://h/1", "caption": " c "}) == ("c\nhttps://h/1", True)
    assert render(kind, {"link": "https://h/1"}) == ("https://h/1", True)
    assert render(kind, {"id": "5", "caption": "c"}) == ("c", False)
    assert render(kind, {"id": "5", "filename": "f"}) == ("", False)


def test_location() -> None:
    """A location is its name, its address, its place and its link."""
    value = {"name": "n", "address": "a", "latitude": 1.5, "longitude": -2, "url": "https://h/"}
    assert render("location", value)[0] == "n\na\n1.5, -2\nhttps://h/"
    assert render("location", {"latitude": True, "longitude": "1"})[0] == ""


def test_contacts() -> None:
    """Contacts are a line each, with name and phones; the first ones of many."""
    contact = {"name": {"formatted_name": "Ann"}, "phones": [{"phone": "+1"}, {"phone": "+2"}, {}]}
    assert render("contacts", [contact])[0] == "Ann +1 +2"
    assert len(render("contacts", [contact] * 99)[0].splitlines()) == MAX_CONTACTS


def test_template() -> None:
    """A template becomes the values of its header and its body, in this order; content goes before that, since the
    template's own words are not in the message."""
    amount = {"fallback_value": "R 10", "code": "ZAR", "amount_1000": 10000}
    components = [
        {
            "type": "body",
            "parameters": [
                {"type": "text", "text": "Thandi"},
                {"type": "currency", "currency": amount},
                {"type": "date_time", "date_time": {"fallback_value": "5 May"}},
            ],
        },
        {"type": "button", "parameters": [{"type": "payload", "payload": "secret"}]},
        {
            "type": "header",
            "parameters": [{"type": "document", "document": {"link": "https://h/1", "filename": "a"}}],
        },
    ]
    assert render("template", {"name": "visit", "components": components}) == (
        "https://h/1\nThandi\nR 10\n5 May",
        False,
    )
    for broken in (
        None,
        [],
        {"components": 5},
        {"components": [{"type": "body", "parameters": [{"type": []}]}]},
    ):
        assert render("template", broken) == ("", False)


def test_interactive_with_a_link() -> None:
    """An interactive message with a link's button is its text and the link."""
    value = {"body": {"text": "b"}, "action": {"name": "cta_url", "parameters": {"url": "https://h/"}}}
    assert render("interactive", value) == ("b\nhttps://h/", False)


@pytest.mark.parametrize(
    "link",
    [
        None,
        5,
        "",
        "h",
        "ftp://h/",
        "javascript:x",
        "https://",
        "https://[",
        "https://h/ x",
        "https://h/\nx",
        "https://h/" + "x" * MAX_LINK,
    ],
)
def test_no_link(link: Any) -> None:
    """What is no link of http or https, in one line and of bounded length, is none."""
    assert link_of(link) == ""


@given(json_values)
def test_any_value(value: Any) -> None:
    """Whatever a message has, it is a text."""
    for kind in (*MEDIA, "location", "contacts", "interactive", "template", "x"):
        assert isinstance(render(kind, value)[0], str)
