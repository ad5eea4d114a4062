"""Options of an External channel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from junebug_turn.applications.rapidpro.options import RapidProOptions
from junebug_turn.daemon.settings import load
from tests.support.configurations import RAPIDPRO, faults, only


def options(**given: Any) -> RapidProOptions:
    read: Any = only(load({"applications": json.dumps([RAPIDPRO | given])}, {}))
    assert isinstance(read, RapidProOptions)
    return read


def test_places() -> None:
    """Its path, its URL and its store are found; the last message of an address is kept."""
    read = options(message_cache_class="memory", base_url_path="a/b/")
    assert (read.path, list(read.urls)) == ("/a/b", ["rapidpro_url"])
    assert read.rapidpro_url == "http://rapidpro/c/ex/8eb23e93"
    assert (read.store_class, read.remember_last) == ("memory", True)
    assert (read.late_replies, read.strip_plus, read.session_start_text) == ("send", False, None)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"rapidpro_url": "ftp://h"}, "rapidpro_url: must be a URL"),
        ({"rapidpro_url": "http://h/?a=b"}, "rapidpro_url: must have no query"),
        ({"late_replies": "drop"}, "late_replies: must be one of send, refuse"),
    ],
)
def test_faults(given: dict[str, Any], line: str) -> None:
    """A wrong option is told."""
    (told,) = faults({"applications": json.dumps([RAPIDPRO | given])})
    assert line in told
