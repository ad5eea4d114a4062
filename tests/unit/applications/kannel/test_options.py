"""Options of Kannel's HTTP interface."""

from __future__ import annotations

import json
from typing import Any

import pytest

from junebug_turn.applications.kannel.options import KannelOptions
from junebug_turn.daemon.settings import load
from tests.support.configurations import KANNEL, faults, only


def test_places() -> None:
    """Its path, its URL and its store are found; escapes in the URL are taken as they are."""
    url = "http://u:p@h/mo?from=%p&text=%a&at=%T"
    read: Any = only(
        load({"applications": json.dumps([KANNEL | {"receive_url": url, "receive_method": "get"}])}, {})
    )
    assert isinstance(read, KannelOptions)
    assert (read.path, read.urls, read.remember_last) == ("/kannel", {"receive_url": url}, False)
    assert read.store_class == "MemoryMessageCache"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"receive_url": ""}, "receive_url: must not be empty"),
        ({"receive_method": "put"}, "receive_method: must be one of post, get"),
        ({"event_url_allowed_hosts": "h"}, "event_url_allowed_hosts: must be a list"),
    ],
)
def test_faults(given: dict[str, Any], line: str) -> None:
    """A wrong option is told."""
    (told,) = faults({"applications": json.dumps([KANNEL | given])})
    assert line in told
