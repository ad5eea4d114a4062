"""The regular expressions of a router's destinations, which clients give: each search has an end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import regex
from attrs import frozen

TIME_LIMIT = 0.05
"""Seconds of processor time for one search: everything else waits meanwhile.  A sensible one takes microseconds."""

MAX_LENGTH = 1000
"""Characters of an expression."""

_FIELD = "config field 'regular_expression'"


@frozen
class Pattern:
    """A regular expression, in the syntax of Python's ``re``, which Junebug has.

    The ``regex`` library searches with a time limit; ``re`` can take longer than the universe lasts, for ``(a|aa)+$``.
    """

    compiled: Any

    def fits(self, address: str) -> bool:
        """Return whether it is found in an address.

        :raises TimeoutError: that took too long
        """
        return self.compiled.search(address, timeout=TIME_LIMIT) is not None


def read_pattern(properties: Mapping[str, Any]) -> Pattern:
    """Return the regular expression of a destination.

    :raises ValueError: there is none that can be used; the text says why
    """
    config = properties.get("config")
    text = config.get("regular_expression") if isinstance(config, Mapping) else None
    if text is None:
        raise ValueError(f"Missing required {_FIELD}")
    try:
        if len(text) > MAX_LENGTH:
            raise ValueError(f"Error parsing {_FIELD}: is longer than {MAX_LENGTH} characters")
        re.compile(text)  # ``regex`` takes what ``re`` doesn't
        return Pattern(regex.compile(text, regex.VERSION0))
    except (re.error, regex.error, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"Error parsing {_FIELD}: is not a valid regular expression: {error}") from None
