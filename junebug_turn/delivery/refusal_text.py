"""Text of a destination's refusal, for log lines and parked messages: one short line without secrets.

The form of an answer's body is the application's, which gives the function that reads the text.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from typing import TypeAlias

from junebug_turn.telemetry.masking import mask_digits

MAX_TEXT = 200
"""Characters of the text."""

RefusalReader: TypeAlias = Callable[[bytes], str]
"""Reads the text from the beginning of an answer's body, whatever is in it; empty where there is none."""

_HIDDEN = "***"
# Telephone numbers, also without a plus; and whatever is as long as a token, an id or a URL.
_DIGITS = re.compile(r"\+?\d(?:[ .()-]?\d){6,}")
_LONG = re.compile(r"[\w./+=:~%?&#@-]{24,}", re.ASCII)


def clean(text: str, authorization: bytes | None) -> str:
    """Return ``text`` in one line of at most ``MAX_TEXT`` characters, without control characters, the credentials of
    the request, numbers of persons, and long words."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    for secret in _secrets(authorization):
        line = line.replace(secret, _HIDDEN)
    line = _DIGITS.sub(lambda number: mask_digits(number[0]), _LONG.sub(_HIDDEN, line))
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 1]}…"


def _secrets(authorization: bytes | None) -> list[str]:
    """Return the texts of an Authorization header that an answer could quote."""
    scheme, _, value = (authorization or b"").partition(b" ")
    found = [value.decode("utf-8", "replace")]
    if scheme == b"Basic":
        found += b64decode(value).decode("utf-8", "replace").split(":", 1)[1:]
    return [secret for secret in found if secret]
