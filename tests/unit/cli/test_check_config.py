"""``junebug-turn check-config``: values with their sources, no secrets, and its exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from junebug_turn.daemon.settings import explain, schema
from tests.support.configurations import JUNEBUG, TURN, written
from tools.servers.rabbitmq import RabbitNode

ROOT = Path(__file__).resolve().parents[3]

SECRETS = (
    "s3cret-amqp",
    "s3cret-url",
    "s3cret-token",
    "s3cret-hmac",
    "s3cret-cache",
    "s3cret-api",
    "s3cret-turn",
)
SECRET_FILE: dict[str, Any] = {
    "amqp": {"password": "s3cret-amqp", "hostname": "127.0.0.1"},
    "sentry_dsn": "https://s3cret-url@sentry.example.org/1",
    "middlewares": [{"class_path": "a.B", "enable_for_connectors": ["sms"], "key": "s3cret-token"}],
    "http_bind": "127.0.0.1:8080",
    "applications": [
        JUNEBUG
        | {
            "mo_message_url": "http://user:s3cret-url@rapidpro.example.org:81/s3cret-token?token=s3cret-token",
            "mo_message_url_auth_token": "s3cret-token",
            "state_cache_config": {"password": "s3cret-cache"},
            "api_auth": {"tokens": ["s3cret-api"], "users": {"rapidpro": "s3cret-api"}},
        },
        TURN | {"turn_hmac_secret": "s3cret-hmac", "auth_token": "s3cret-turn"},
    ],
}


def command(*args: str, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "junebug_turn.cli.main", "check-config", *args],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def told(flags: dict[str, str], environ: dict[str, str], application: int | None = None) -> dict[str, Any]:
    explained = explain(flags, environ)
    report = explained.daemon if application is None else explained.applications[application]
    return {key: (each.shown, each.source) for key, each in report.items()}


def test_layers(tmp_path: Path) -> None:
    """Each value is told with the layer that it came from, default, file, variable or flag."""
    file = tmp_path / "c.yaml"
    flags = written(file, JUNEBUG | {"amqp": {"hostname": "rabbit", "port": 1}, "max_retries": 7})
    flags["amqp_port"] = "2"
    environ = {"MAX_RETRIES": "5", "STATE_CACHE_CONFIG_TIMEOUT": "60"}
    daemon, application = told(flags, environ), told(flags, environ, 0)
    assert daemon["amqp.hostname"] == ("rabbit", str(file))
    assert daemon["amqp.port"] == (2, "flag --amqp-port")
    assert daemon["amqp.vhost"] == ("/", "default")
    assert daemon["limits.max_headers"] == (100, "default")
    assert application["max_retries"] == (5, "environment variable MAX_RETRIES")
    assert application["connector_name"] == ("sms", str(file))
    assert application["transport_type"] == ("sms", "default")
    assert application["state_cache_config"] == (
        {"timeout": "***"},
        "environment variable STATE_CACHE_CONFIG_TIMEOUT",
    )


def test_amqp_url_is_told_as_the_source(tmp_path: Path) -> None:
    """What amqp_url says is told with it as the source."""
    flags = written(tmp_path / "c.yaml", JUNEBUG | {"amqp": {"hostname": "rabbit"}})
    daemon = told(flags, {"AMQP_URL": "amqps://u:p@other/v"})
    assert daemon["amqp.hostname"] == ("other", "environment variable AMQP_URL")
    assert daemon["amqp.password"] == ("***", "environment variable AMQP_URL")
    assert daemon["amqp.ca_file"] == (None, "default")


def test_every_option_is_told(tmp_path: Path) -> None:
    """No option is left out, of the daemon or of one of several applications."""
    flags = written(tmp_path / "c.yaml", SECRET_FILE)
    for number, owner in ((None, "daemon"), (0, "junebug"), (1, "turn")):
        expected = {entry.key for entry in schema().entries if owner in entry.owners}
        expected -= {"amqp_url", "application", "applications"}
        assert set(told(flags, {}, number)) - {"application"} == expected


def test_no_secrets(tmp_path: Path) -> None:
    """No secret is shown, in a text or in JSON; of a URL its host is, of a mapping its keys."""
    file = tmp_path / "c.yaml"
    written(file, SECRET_FILE)
    for flags in (("--no-connect",), ("--no-connect", "--json")):
        status, out, err = command("-c", str(file), *flags)
        # The middleware's class can't be imported.
        assert status == 1
        for secret in SECRETS:
            assert secret not in out + err
    report = json.loads(out)
    first = report["applications"][0]
    assert first["mo_message_url"]["value"] == "http://rapidpro.example.org:81/***"
    assert first["api_auth"]["value"] == {"tokens": ["***"], "users": {"rapidpro": "***"}}
    assert first["mo_message_url_auth_token"]["value"] == "***"
    assert first["default_event_auth_token"]["value"] is None
    assert report["daemon"]["middlewares"]["value"][0]["class_path"] == "a.B"
    assert [fault.partition(":")[0] for fault in report["faults"]] == [
        "middlewares[0].class_path",
        "state_cache_config.password",
    ]


def test_faults(tmp_path: Path) -> None:
    """A configuration that can't be used is status 1, with the lines that the daemon would have."""
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(JUNEBUG | {"max_retires": 1}))
    status, out, err = command("-c", str(file))
    assert status == 1
    assert err == f"junebug-turn: max_retires: unknown option; did you mean max_retries? ({file})\n"
    assert "can be used" not in out
    assert command("--nonsense")[0] == 2
    missing = command("-c", str(file), "--ca-file", str(tmp_path / "no.pem"), "--json")
    assert missing[0] == 1


def test_status(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """The status is 0 when broker and destinations are reached, and 3 when one is not."""
    with socket.create_server(("127.0.0.1", 0)) as destination:
        file = tmp_path / "c.yaml"
        url = f"http://user:s3cret-url@127.0.0.1:{destination.getsockname()[1]}/inbound"
        written(file, JUNEBUG | {"mo_message_url": url})
        status, out, err = command("-c", str(file), "--json", "--amqp-url", rabbitmq.url)
        report = json.loads(out)
        assert err == ""
        assert (status, report["status"], [each["ok"] for each in report["reached"]]) == (0, 0, [True, True])
        assert report["reached"][1]["where"] == f"http://127.0.0.1:{destination.getsockname()[1]}"
    status, out, _ = command("-c", str(file), "--amqp-url", rabbitmq.url)
    assert status == 3
    assert "reached broker at" in out
    assert "cannot reach mo_message_url of sms" in out
    assert out.endswith("The configuration is valid, but 1 of 2 addresses cannot be reached.\n")


def test_defaults(tmp_path: Path) -> None:
    """What differs from the defaults is shown; --all shows every option, and the verdict stands at the end."""
    file = tmp_path / "c.yaml"
    written(file, JUNEBUG | {"max_retries": 7})
    status, out, _ = command("-c", str(file), "--no-connect")
    assert status == 0
    assert "max_retries = 7" in out
    assert "(default)" not in out
    assert "--all shows them" in out
    assert out.endswith("The configuration can be used.\n")
    whole = command("-c", str(file), "--no-connect", "--all")[1]
    assert "limits.max_headers = 100  (default)" in whole


@pytest.mark.parametrize("content", [None, b"a: [", b"- a list", b"\xff"])
def test_an_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    """A file that can't be read is the only fault: nobody knows what is missing in it."""
    file = tmp_path / "c.yaml"
    if content is not None:
        file.write_bytes(content)
    status, out, err = command("-c", str(file))
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert str(file) in err


def test_secrets_in_files(tmp_path: Path) -> None:
    """Each flag of the daemon is one of the tools, too, those of secrets in files among them."""
    file, secret = tmp_path / "c.yaml", tmp_path / "password"
    written(file, JUNEBUG)
    secret.write_text("s3cret-amqp\n")
    status, out, _ = command("-c", str(file), "--no-connect", "--json", f"--amqp-password-file={secret}")
    password = json.loads(out)["daemon"]["amqp.password"]
    assert (status, password["value"]) == (0, "***")
    assert "--amqp-password-file" in password["source"] or "amqp_password_file" in password["source"]


def test_as_a_part_of_the_command(tmp_path: Path) -> None:
    """``junebug-turn check-config`` is this check, and its status is the process's."""
    path = tmp_path / "junebug-turn.yaml"
    path.write_text("application: junebug\nno_such_option: 1\n")
    command = [sys.executable, "-m", "junebug_turn.cli.main", "check-config", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no_such_option" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_warnings(tmp_path: Path) -> None:
    """The warnings that the daemon logs at its start are there, for a person and for a script."""
    file = tmp_path / "c.yaml"
    written(file, JUNEBUG | {"http_bind": "0.0.0.0:8080"})
    _, _, errors = command("--config", str(file), "--no-connect")
    assert "warning: Everybody who reaches 0.0.0.0:8080" in errors
    _, printed, _ = command("--config", str(file), "--no-connect", "--json")
    assert any("Everybody" in line for line in json.loads(printed)["warnings"])
