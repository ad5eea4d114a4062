"""The configuration file that a Junebug's channels become."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.daemon.junebug.command_line import parse
from junebug_turn.daemon.junebug.migration import Migration
from junebug_turn.daemon.settings import Settings, explain, load
from junebug_turn.state.channel_store import Definition, Key


def migrated(definitions: Mapping[Key, Any], **environ: str) -> Migration:
    explained = explain({}, environ, parse(["-redisdb", "1"]))
    assert explained.settings is not None, explained.faults
    assert explained.settings.channels is not None
    made = Migration(explained.settings.channels, explained.daemon, {})
    made.add(
        {key: Definition(json.dumps(value).encode(), value) for key, value in definitions.items()},
    )
    return made


def loaded(made: Migration, file: Path) -> Settings:
    file.write_text(made.text("a Redis"), "ascii")
    return load({"config": str(file)}, {})


WHOLE = {
    "type": "smpp",
    "config": {"system_id": "me"},
    "label": "Code",
    "mo_url": "http://u:p@client.example.org/mo",
    "mo_url_auth_token": "0821",
    "amqp_queue": "app",
    "status_url": "http://client.example.org/status",
    "character_limit": 0,
    "rate_limit_count": 1,
}


def test_a_channel(tmp_path: Path) -> None:
    """A channel is an application with all of its properties, and with what Junebug did elsewhere than we."""
    made = migrated({Key.channel("a-1"): WHOLE})
    assert made.left_out == []
    (options,) = loaded(made, tmp_path / "f").applications
    assert isinstance(options, JunebugOptions)
    assert (options.connector_name, options.path) == ("a-1", "/channels/a-1")
    assert options.mo_message_url == WHOLE["mo_url"]
    assert options.mo_message_url_auth_token == "0821"
    assert (options.amqp_queue, options.status_url) == ("app", WHOLE["status_url"])
    assert options.character_limit == 0
    assert (options.require_from, options.forward_session_close, options.transport_status) == (
        False,
        False,
        True,
    )
    assert str(options.http_bind) == "localhost:8080"
    config = options.state_cache_config
    assert (options.state_cache_class, config["url"]) == ("redis", "redis://localhost:6379/1")
    assert (float(config["inbound_ttl"]), float(config["outbound_ttl"])) == (600, 172800)


def test_the_login(tmp_path: Path) -> None:
    """docker-junebug's path and login are those of the applications."""
    made = migrated({Key.channel("a"): WHOLE}, AUTH_USERNAME="jb", AUTH_PASSWORD="word")
    (options,) = loaded(made, tmp_path / "f").applications
    assert options.path == "/jb/channels/a"
    assert options.api_auth is not None
    assert dict(options.api_auth.users) == {"jb": "word"}


def test_left_out(tmp_path: Path) -> None:
    """What can't be carried over is a line each, with the reason, in the file too."""
    made = migrated(
        {
            Key.channel("good"): {"type": "dmark", "config": {}, "mo_url": "http://h/"},
            Key.channel("nowhere"): {"type": "smpp", "config": {}, "mo_url": None},
            Key.channel("wrong"): {"type": "smpp", "config": {}, "mo_url": "ftp://h/s3cret"},
            Key.channel("queue"): {"type": "smpp", "config": {}, "amqp_queue": "good"},
            Key.channel("amq.x"): {"type": "smpp", "config": {}, "mo_url": "http://h/"},
            Key.channel("routed"): {"type": "smpp", "config": {}},
            Key.of_router("r"): {"type": "from_address", "label": "codes", "config": {"channel": "routed"}},
            Key.destination("r", "d"): {"config": {"regular_expression": "1"}, "mo_url": "http://h/"},
            Key.of_router("odd"): {"config": {"channel": []}},
        }
    )
    found = {line.split(":")[0]: line for line in made.left_out}
    assert found.keys() == {
        "channel nowhere",
        "channel wrong",
        "channel queue",
        "channel amq.x",
        "channel routed",
        'router r ("codes") with 1 destinations',
        "router odd with 0 destinations",
    }
    assert "router r" in found["channel routed"]
    text = made.text("a Redis")
    assert all(f"# - {line}" in text for line in made.left_out)
    assert "s3cret" not in text
    (options,) = loaded(made, tmp_path / "f").applications
    assert (options.connector_name, options.transport_type) == ("good", "ussd")


def test_a_hostile_channel(tmp_path: Path) -> None:
    """No text of a channel ends the comment that it stands in."""
    evil = "x\nlog_level: DEBUG\r\x85\u2028\u2029log_level: DEBUG\n# \t\0"
    made = migrated(
        {
            Key.channel("a"): {
                "type": evil,
                "label": evil,
                "config": {evil: evil},
                "mo_url": "http://h/",
            },
            Key.channel("b"): {
                "type": "telnet",
                "label": evil,
                "config": {evil: [evil]},
                "mo_url": "http://h/",
            },
            Key.channel(evil): {"type": "smpp", "config": {}},
        }
    )
    settings = loaded(made, tmp_path / "f")
    assert settings.daemon.log_level == "INFO"
    assert len(settings.applications) == 2


def test_a_transport() -> None:
    """Each application has a comment with its transport, whose configuration can be copied as it is."""
    made = migrated(
        {Key.channel("a"): WHOLE | {"config": {"system_id": "0123", "password": "yes", "mt_tps": 1}}}
    )
    text = made.text("a Redis")
    assert "vumi2 worker vumi2.transports.smpp.smpp.SmppTransceiverTransport" in text
    assert "# vumi2 does not have: mt_tps" in text
    lines = [line.removeprefix("  #     ") for line in text.splitlines() if line.startswith("  #     ")]
    assert yaml.safe_load("\n".join(lines)) == {
        "transport_name": "a",
        "system_id": "0123",
        "password": "yes",
        "amqp": {
            "hostname": "127.0.0.1",
            "port": 5672,
            "username": "guest",
            "password": "guest",
            "vhost": "/",
        },
    }
