"""Configurations for tests: complete ones, and how they are written and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from junebug_turn.daemon.settings import Settings, load
from junebug_turn.errors import ConfigError

JUNEBUG: dict[str, Any] = {
    "application": "junebug",
    "connector_name": "sms",
    "http_bind": "127.0.0.1:8080",
    "mo_message_url": "http://rapidpro/inbound",
}
TURN: dict[str, Any] = {
    "application": "turn",
    "connector_name": "ussd",
    "http_bind": "127.0.0.1:8080",
    "vumi_api_path": "/turn",
    "default_from_addr": "8110",
    "auth_token": "t0ken",
    "turn_hmac_secret": "hm4c",
}
RAPIDPRO: dict[str, Any] = {
    "application": "rapidpro",
    "connector_name": "flows",
    "http_bind": "127.0.0.1:8080",
    "base_url_path": "/rapidpro",
    "rapidpro_url": "http://rapidpro/c/ex/8eb23e93/",
    "default_from_addr": "8110",
}
KANNEL: dict[str, Any] = {
    "application": "kannel",
    "connector_name": "kannel",
    "http_bind": "127.0.0.1:8080",
    "base_url_path": "/kannel",
    "receive_url": "http://rapidpro/c/kn/8eb23e93/receive",
}
FLAGS: dict[str, str] = dict(JUNEBUG)


def faults(flags: dict[str, str], environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(flags, environ or {})
    lines = list(caught.value.lines)
    assert all(line and "\n" not in line for line in lines)
    return lines


def written(file: Path, value: Any) -> dict[str, str]:
    """The flags that name ``file``, which holds ``value`` (a text as it is)."""
    file.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return {"config": str(file)}


def only(settings: Settings) -> Any:
    (application,) = settings.applications
    return application
