"""Buttons and lists as numbered texts."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.applications.turn.interactive import MAX_CHOICES, render
from junebug_turn.applications.turn.menus import Choice

LIST: dict[str, Any] = {
    "type": "list",
    "body": {"text": "Topics"},
    "action": {
        "button": "Menu",
        "sections": [
            {"title": "A", "rows": [{"id": "r1", "title": "Nutrition", "description": "x"}]},
            {"title": "B", "rows": [{"id": "r2", "title": "Sleep"}]},
        ],
    },
}


def buttons(*titles: object, **parts: Any) -> Any:
    replies = [
        {"type": "reply", "reply": {"id": f"b{n}", "title": title}} for n, title in enumerate(titles, 1)
    ]
    return {"type": "button", "body": {"text": "How are you?"}, "action": {"buttons": replies}, **parts}


def test_buttons() -> None:
    """Buttons are numbered lines between the body and the footer; header and footer can be missing."""
    choices = (Choice("button_reply", "b1", "Well"), Choice("button_reply", "b2", "Not well"))
    rendered = render(buttons("Well", "Not well", header={"text": "MomConnect"}, footer={"text": "Choose"}))
    assert rendered == ("MomConnect\nHow are you?\n1. Well\n2. Not well\nChoose", choices)
    assert render(buttons("Well", "Not well")) == ("How are you?\n1. Well\n2. Not well", choices)


def test_list() -> None:
    """A list's rows are numbered through all sections."""
    choices = (Choice("list_reply", "r1", "Nutrition"), Choice("list_reply", "r2", "Sleep"))
    assert render(LIST) == ("Topics\n1. Nutrition\n2. Sleep", choices)


@pytest.mark.parametrize("title", [None, 5, "", " "])
def test_choice_without_title(title: object) -> None:
    """A choice without a title is left out; the others are numbered without a gap."""
    rendered = render(buttons("Well", title, "Not well"))
    assert rendered is not None
    assert rendered[0].splitlines()[1:] == ["1. Well", "2. Not well"]


@pytest.mark.parametrize(
    "interactive",
    [
        None,
        [],
        {},
        {"body": {"text": "b"}},
        buttons(),
        buttons("Well", body={"text": " "}),
        buttons("Well", action=[]),
    ],
)
def test_neither_text_nor_choices(interactive: Any) -> None:
    """An interactive message without a body's text or without choices can't be rendered."""
    assert render(interactive) is None


def test_too_many_choices() -> None:
    """A menu has at most 99 choices."""
    assert MAX_CHOICES == 99
    assert render(buttons(*map(str, range(99)))) is not None
    assert render(buttons(*map(str, range(100)))) is None
