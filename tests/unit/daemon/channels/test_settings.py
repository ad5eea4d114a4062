"""The options of the store of channels, and those that each of its channels has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.daemon.settings import load
from junebug_turn.errors import InvalidBody
from tests.support.configurations import JUNEBUG, faults

BIND = {"http_bind": "127.0.0.1:8080"}


def flags(**options: Any) -> dict[str, str]:
    values = BIND | {"channels_store": "redis", "channels_url": "redis://h/1"} | options
    return {name: each if isinstance(each, str) else json.dumps(each) for name, each in values.items()}


def channels(**options: Any) -> ChannelsSettings:
    found = load(flags(**options), {}).channels
    assert found is not None
    return found


def test_none_by_default() -> None:
    """Without ``channels.store`` there are no channels but the configured ones."""
    assert load(dict(JUNEBUG), {}).channels is None


def test_without_an_application() -> None:
    """With a store of channels no application has to be configured."""
    settings = load(flags(), {})
    assert settings.applications == ()
    assert settings.channels is not None
    assert str(settings.channels.http_bind) == "127.0.0.1:8080"
    assert str(channels(channels_http_bind="127.0.0.1:9").http_bind) == "127.0.0.1:9"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            {"channels_store": "redis", "channels_url": ""},
            "channels.url: required with channels.store: redis",
        ),
        ({"channels_store": "sqlite"}, "channels.path: required with channels.store: sqlite"),
        ({"channels_store": "mongo"}, "channels.store: must be one of redis, sqlite"),
        ({"channels_url": "http://:pass-word@h/"}, "channels.url: must be a URL"),
        (
            {"channels_defaults": {"max_retries": "x"}},
            "channels.defaults.max_retries: must be a whole number",
        ),
        ({"channels_defaults": {"foo": 1}}, "channels.defaults.foo: unknown option"),
        (
            {"channels_defaults": {"mo_message_url": "http://h/"}},
            "channels.defaults.mo_message_url: each channel",
        ),
        ({"http_bind": ""}, "http_bind: must not be empty"),
        ({"connector_name": "c"}, "connector_name: needs an application"),
    ],
)
def test_faults(options: dict[str, Any], fault: str) -> None:
    """Each fault is one line that names the key, and has no secret."""
    lines = faults(flags(**options))
    assert any(line.startswith(fault) for line in lines), lines
    assert "pass-word" not in str(lines)


def test_a_channel() -> None:
    """A channel has the options that its properties and the defaults say, and Junebug's TTLs in the same store."""
    settings = channels(channels_base_path="/jb", channels_defaults={"max_retries": 7})
    found = settings.channel(
        "c1", {"mo_url": "http://u:p@h/mo", "mo_url_auth_token": "t0ken", "character_limit": 160, "x": 1}
    )
    assert found is not None
    assert (found.connector_name, found.base_url_path, found.path) == (
        "c1",
        "/jb/channels/c1",
        "/jb/channels/c1",
    )
    assert (found.mo_message_url, found.mo_message_url_auth_token) == ("http://u:p@h/mo", "t0ken")
    assert (found.character_limit, found.max_retries, found.allow_expired_replies) == (160, 7, False)
    assert found.store_class == "redis"
    assert found.store_config["url"] == "redis://h/1"
    assert (found.store_config["inbound_ttl"], found.store_config["outbound_ttl"]) == (600, 172800)
    assert (found.require_from, found.forward_session_close) == (False, False)


def test_a_channel_without_a_destination() -> None:
    """A channel without ``mo_url`` and ``amqp_queue`` has no application; with one of them, even null, it has."""
    assert channels().channel("c1", {"type": "telnet"}) is None
    for properties in ({"mo_url": None}, {"amqp_queue": None}, {"mo_url": ""}):
        found = channels().channel("c1", properties)
        assert found is not None
        assert not found.mo_message_url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mo_url", "ftp://h/"),
        ("mo_url", 5),
        ("mo_url_auth_token", "a\nb"),
        ("character_limit", -1),
        ("amqp_queue", "c1"),
    ],
)
def test_properties_that_cannot_be_used(name: str, value: Any) -> None:
    """A property that can't be used is refused by its name."""
    with pytest.raises(InvalidBody) as caught:
        channels().channel("c1", {"mo_url": "http://h/", name: value})
    assert caught.value.faults[0][1] == ("properties", name)
