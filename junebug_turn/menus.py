"""A menu that was sent to a phone as a numbered text, until its answer comes."""

from __future__ import annotations

import re

from attrs import frozen

_NUMBER = re.compile(r"\s*(\d{1,2})\s*[.)]?\s*")


@frozen
class Choice:
    """One line of a menu: ``kind`` is ``button_reply`` or ``list_reply``, after what it is where there is a screen."""

    kind: str
    id: str
    title: str


@frozen
class Menu:
    """The choices of the last menu that an address was sent.

    ``answered_by`` is the id of the inbound message that came next: only that one can choose, however often it is
    delivered.
    """

    choices: tuple[Choice, ...]
    answered_by: str | None = None

    def chosen(self, content: str | None) -> Choice | None:
        """The choice whose number ``content`` is, as ``2``, `` 2 `` or ``2.``"""
        match = _NUMBER.fullmatch(content or "")
        number = int(match[1]) if match else 0
        return self.choices[number - 1] if 1 <= number <= len(self.choices) else None
