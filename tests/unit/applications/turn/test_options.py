"""Options of the Turn Channels API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.daemon.settings import load
from tests.support.configurations import TURN, faults, only


def options(**given: Any) -> TurnOptions:
    read: Any = only(load({"applications": json.dumps([TURN | given])}, {}))
    assert isinstance(read, TurnOptions)
    return read


def test_places() -> None:
    """Its path, its URLs and its store are those that the document names; the last message of an address is kept."""
    read = options(turn_api_url="http://turn/api/", message_cache_class="memory")
    assert read.path == "/turn"
    assert list(read.urls) == ["turn_api_url"]
    assert options().urls == {}
    assert (read.store_class, read.remember_last) == ("memory", True)


@pytest.mark.parametrize("name", ["default_from_addr", "auth_token", "turn_hmac_secret"])
def test_required(name: str) -> None:
    """A from address, the token and the key are required, and none can be empty."""
    for given in ({key: TURN[key] for key in TURN if key != name}, TURN | {name: ""}):
        (line,) = faults({"applications": json.dumps([given])})
        assert name in line


def test_status_format() -> None:
    """The form of events is flat or nested."""
    assert options().status_format == "flat"
    (line,) = faults({"applications": json.dumps([TURN | {"status_format": "round"}])})
    assert "status_format" in line


@pytest.mark.parametrize(
    ("url", "status_format", "warned"),
    [
        ("https://whatsapp.turn.io/v1/numbers/1", "flat", True),
        ("https://turn.io/", "flat", True),
        ("https://whatsapp.turn.io/v1/numbers/1", "nested", False),
        ("https://notturn.io/", "flat", False),
        ("https://turn.io.example/", "flat", False),
        ("", "flat", False),
    ],
)
def test_flat_statuses_at_turn(url: str, status_format: str, warned: bool) -> None:
    """status_format flat together with a host of turn.io warns at the start."""
    assert bool(options(turn_api_url=url, status_format=status_format).cautions) is warned


@pytest.mark.parametrize(
    ("url", "warned"), [("https://whatsapp.turn.io/v1/numbers/1", True), ("https://turn.example/", False)]
)
def test_credentials_that_turn_does_not_send(url: str, warned: bool) -> None:
    """api_auth for the webhooks of turn.io, which has no Authorization header for them, warns at the start."""
    auth = {"tokens": ["a-long-random-text"]}
    found = options(turn_api_url=url, status_format="nested", api_auth=auth).cautions
    assert ["api_auth" in caution for caution in found] == [True] * warned
