"""Warnings at the start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from junebug_turn.daemon.cautions import cautions
from junebug_turn.daemon.process import RESERVE, connections_within
from junebug_turn.daemon.settings import load

PLENTY = 100_000
JUNEBUG = {
    "application": "junebug",
    "connector_name": "sms",
    "base_url_path": "/jb",
    "mo_message_url": "http://rapidpro/inbound",
}
TURN = {
    "application": "turn",
    "connector_name": "ussd",
    "default_from_addr": "8110",
    "auth_token": "t0ken",
    "turn_hmac_secret": "hm4c",
}


def warned(
    *applications: Any, bind: str = "0.0.0.0:8080", descriptors: int = PLENTY, **flags: str
) -> list[str]:
    given = json.dumps([{"http_bind": bind, **each} for each in applications])
    settings = load({"applications": given, **flags}, {})
    return [text.format(**fields) for text, fields in cautions(settings, descriptors)]


@pytest.mark.parametrize(
    ("bind", "warning"),
    [
        ("127.0.0.1:8080", False),
        ("127.0.0.9:8080", False),
        ("[::1]:8080", False),
        ("localhost:8080", False),
        ("unix:/run/socket", False),
        ("systemd:domain=INET:index=0", False),
        ("haproxy:tcp:8080:interface=127.0.0.1", False),
        ("0.0.0.0:8080", True),
        (":8080", True),
        ("[::]:8080", True),
        ("192.0.2.1:8080", True),
        ("haproxy:tcp:8080", True),
        ("tcp:8080", True),
    ],
)
def test_open_to_all(bind: str, warning: bool) -> None:
    """An address that other machines reach has api_auth or event_url_allowed_hosts, or there is a warning."""
    line = f"Everybody who reaches {bind} can send messages of sms: set api_auth, or use 127.0.0.1 (docs/security.md)"
    assert warned(JUNEBUG, bind=bind) == [line] * warning


@pytest.mark.parametrize(
    "guard", [{"api_auth": {"tokens": ["x" * 16]}}, {"event_url_allowed_hosts": ["example.org"]}]
)
def test_guarded(guard: dict[str, Any]) -> None:
    """One of the two will do; Turn's API is for those who can sign."""
    assert warned({**JUNEBUG, **guard}) == []
    assert warned(TURN) == []


@pytest.mark.parametrize(
    "auth", [{"tokens": ["x" * 16, "y" * 15]}, {"users": {"rapidpro": "y" * 15}}], ids=["token", "password"]
)
def test_short_tokens(auth: dict[str, Any]) -> None:
    """A token or password that can be guessed is warned of, and not shown."""
    (line,) = warned({**JUNEBUG, "api_auth": auth}, bind="127.0.0.1:8080")
    assert line == "api_auth of sms has a token or password of fewer than 16 characters: it can be guessed"


@pytest.mark.parametrize(
    ("descriptors", "most"), [(PLENTY, 1000), (1024, 1024 - RESERVE - 80), (300, 75), (1, 1)]
)
def test_descriptors(descriptors: int, most: int) -> None:
    """Connections are bounded by the descriptors that there are, with a reserve for all else; a warning says so."""
    settings = load({"applications": json.dumps([{"http_bind": "127.0.0.1:8080", **JUNEBUG}])}, {})
    assert connections_within(settings, descriptors) == most
    lines = warned(JUNEBUG, bind="127.0.0.1:8080", descriptors=descriptors)
    assert len(lines) == (most < 1000)
    assert all(f"there can be {most} connections" in line for line in lines)


CHANNELS = {"channels_store": "sqlite", "channels_path": "/nowhere/channels.sqlite"}


def test_open_channels() -> None:
    """The API that makes channels at run time is warned of where everybody may use it."""
    (line,) = warned({**JUNEBUG, "http_bind": "127.0.0.1:1"}, channels_http_bind="0.0.0.0:8090", **CHANNELS)
    assert line == (
        "Everybody who reaches 0.0.0.0:8090 can make and change channels: set channels.api_auth, or use 127.0.0.1 "
        "(docs/security.md)"
    )
    short = warned(
        {**JUNEBUG, "http_bind": "127.0.0.1:1"},
        channels_http_bind="0.0.0.0:8090",
        channels_api_auth="{tokens: [short]}",
        **CHANNELS,
    )
    assert short == [
        "channels.api_auth of the channels has a token or password of fewer than 16 characters: it can be guessed"
    ]


def test_descriptors_of_channels() -> None:
    """Where channels are made at run time, half of the descriptors is for their deliveries."""
    given = json.dumps([{**JUNEBUG, "http_bind": "127.0.0.1:1"}])
    settings = load({"applications": given, "channels_http_bind": "127.0.0.1:2", **CHANNELS}, {})
    assert connections_within(settings, 1024) == 512


def test_cautions_of_an_application() -> None:
    """An application's own warnings name its connector."""
    url = {"turn_api_url": "https://whatsapp.turn.io/v1/numbers/1"}
    (line,) = warned(TURN | url, bind="127.0.0.1:80")
    assert line.startswith("ussd: status_format is flat, and Turn takes nested today")


def test_short_credentials_of_operators() -> None:
    """A short token or password of the operators' address is warned of."""
    bind = "127.0.0.1:1"
    (line,) = warned(JUNEBUG, bind=bind, admin_bind="0.0.0.0:2", admin_auth="{users: {me: short}}")
    assert line.startswith("admin_auth of the operators' address has a token or password of fewer than 16")
