"""Menus: the choice that a number stands for, and the note that a message store keeps."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.applications.turn.menus import Choice, Menu
from junebug_turn.messages import strictjson

MENU = Menu(
    (
        Choice("button_reply", "b1", "Well \u263a"),
        Choice("button_reply", "b2", "Not well"),
    ),
)


@pytest.mark.parametrize("content", ["2", " 2 ", "2.", "2)", "\t2\n", "02"])
def test_number_chooses(content: str) -> None:
    """A number of the menu chooses its line, however it is typed."""
    assert MENU.chosen(content) == Choice("button_reply", "b2", "Not well")


@pytest.mark.parametrize("content", [None, "", "0", "3", "-1", "1 2", "one", "1" * 5000, "2x", "\u00b2"])
def test_other_answers_choose_nothing(content: str | None) -> None:
    """What is not a number of the menu chooses nothing."""
    assert MENU.chosen(content) is None


@pytest.mark.parametrize(
    ("menu", "note"),
    [
        (MENU, b'[null,[["button_reply","b1","Well \\u263a"],["button_reply","b2","Not well"]]]'),
        (Menu((Choice("list_reply", "r", "No"),), "ab"), b'["ab",[["list_reply","r","No"]]]'),
        (Menu(()), b"[null,[]]"),
    ],
)
def test_note(menu: Menu, note: bytes) -> None:
    """The note of a menu has the JSON that stores have had for it from the beginning, and is read again."""
    assert strictjson.dumps(menu.to_note()) == note
    assert Menu.from_note(strictjson.loads(note)) == menu


@pytest.mark.parametrize(
    "note", ["x", 1, {}, [], [1], [None, 1], [None, [1]], [None, [["a", "b"]]], [1, 2, 3]]
)
def test_foreign_note(note: Any) -> None:
    """A note that is not a menu's is a ValueError."""
    with pytest.raises(ValueError, match="not a menu"):
        Menu.from_note(note)
