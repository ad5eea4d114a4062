"""Masking of addresses: telephone numbers and the like are personal data, so of each only the end is shown."""

from __future__ import annotations

import re
from functools import lru_cache

_SHOWN = 4
_NUMBER = re.compile(r"\+\d{7,15}(?!\d)")


@lru_cache(1000)
def is_address(name: str) -> bool:
    """Whether a field of this name has the address of a person: ``to_addr``, ``from_addr``."""
    return name == "addr" or name.endswith("_addr")


def mask(address: str, stars: int | None = None) -> str:
    """Mask an address but for its last four characters.

    :param stars: how many stand for the hidden characters; None: as many as there are
    """
    hidden = len(address[:-_SHOWN])
    return "*" * (hidden if stars is None or not hidden else stars) + address[-_SHOWN:]


def mask_digits(address: object) -> str:
    """Mask an address but for its last four digits."""
    digits = "".join(letter for letter in str(address) if letter.isdigit())
    return f"***{digits[-_SHOWN:]}"


def mask_numbers(text: str) -> str:
    """Mask every telephone number in international form that ``text`` holds."""
    return _NUMBER.sub(lambda number: mask_digits(number[0]), text) if "+" in text else text
