"""Whether anybody hears what is said at ``debug``."""

from __future__ import annotations

_heard = True


def debugging() -> bool:
    """Whether a ``debug`` line would be heard.

    To be asked before such a line is said for each message: Twisted makes and hands out an event before anybody can
    drop it, which costs more than most of what a message needs.
    """
    return _heard


def hear_debug(heard: bool) -> None:
    """Say whether somebody does; as long as nobody says so, somebody may."""
    global _heard
    _heard = heard
