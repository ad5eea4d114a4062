"""Menus that are sent to phones as numbered texts, and the answers to them."""

from __future__ import annotations

import re
from typing import Any, Self

from attrs import astuple, frozen

_NUMBER = re.compile(r"\s*(\d{1,2})\s*[.)]?\s*")


@frozen
class Choice:
    """One line of a menu; ``kind`` is ``button_reply`` or ``list_reply``, as WhatsApp names the answer."""

    kind: str
    id: str
    title: str


@frozen
class Menu:
    """The last menu that an address was sent.

    :ivar answered_by: the id of the inbound message that came next: only that one can choose, however often it is
        delivered
    """

    choices: tuple[Choice, ...]
    answered_by: str | None = None

    @classmethod
    def from_note(cls, note: Any) -> Self:
        """Read a menu from the JSON value of ``to_note``.

        :raises ValueError: it is another value
        """
        try:
            answered_by, choices = note
            return cls(tuple(Choice(*choice) for choice in choices), answered_by)
        except (TypeError, ValueError):
            raise ValueError("not a menu") from None

    def to_note(self) -> Any:
        """Return the menu as a JSON value for the message store."""
        return [self.answered_by, [astuple(choice) for choice in self.choices]]

    def chosen(self, content: str | None) -> Choice | None:
        """Return the choice whose number ``content`` is, as ``2``, `` 2 `` or ``2.``"""
        match = _NUMBER.fullmatch(content or "")
        number = int(match[1]) if match else 0
        return self.choices[number - 1] if 1 <= number <= len(self.choices) else None
