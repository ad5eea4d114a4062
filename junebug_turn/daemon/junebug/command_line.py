"""The command line of ``jb``, the command of Junebug, and the variables of its Docker image.

The flags are those of ``junebug/command_line.py``.  The variables are those that docker-junebug's entry point,
``junebug-entrypoint.sh``, makes flags of, with the same defaults.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from junebug_turn.config import yaml_text
from junebug_turn.config.sources import Given

Pieces: TypeAlias = dict[str, Given]
"""Junebug's option, as ``redis.host`` -> its value."""

CONFIG = "config"

# Option, flag, short flag, meaning.
_TEXTS = (
    (CONFIG, "--config", "-c", "the junebug.yml; flags win over it"),
    ("interface", "--interface", "-i", "the address of the API, localhost by default"),
    ("port", "--port", "-p", "the port of the API, 8080 by default"),
    ("logfile", "--log-file", "-l", "the log file; by default standard output"),
    ("sentry_dsn", "--sentry-dsn", "-sd", "the Sentry DSN for reports of bugs"),
    (
        "redis.host",
        "--redis-host",
        "-redish",
        "the host of the Redis with the channels, localhost by default",
    ),
    ("redis.port", "--redis-port", "-redisp", "the port of the Redis, 6379 by default"),
    ("redis.db", "--redis-db", "-redisdb", "the database of the Redis, 0 by default"),
    ("redis.password", "--redis-password", "-redispass", "the password of the Redis"),
    ("amqp.hostname", "--amqp-host", "-amqph", "the host of the broker, 127.0.0.1 by default"),
    ("amqp.vhost", "--amqp-vhost", "-amqpvh", "the virtual host of the broker, / by default"),
    ("amqp.port", "--amqp-port", "-amqpp", "the port of the broker, 5672 by default"),
    ("amqp.username", "--amqp-user", "-amqpu", "the user at the broker, guest by default"),
    ("amqp.password", "--amqp-password", "-amqppass", "the user's password, guest by default"),
    (
        "inbound_message_ttl",
        "--inbound-message-ttl",
        "-ittl",
        "how many seconds an inbound message is kept for replies",
    ),
    (
        "outbound_message_ttl",
        "--outbound-message-ttl",
        "-ottl",
        "how many seconds an outbound message is kept for its events",
    ),
    ("replace_channels", "--replace-channels", "-rch", "no effect here"),
    ("replace_routers", "--replace-routers", "", "no effect here"),
    ("metric_window", "--metric-window", "-mw", "the window of a rate in seconds, 10 by default"),
    ("logging_path", "--logging-path", "-lp", "no effect here"),
    ("log_rotate_size", "--log-rotate-size", "-lrs", "no effect here"),
    ("max_log_files", "--max-log-files", "-mlf", "no effect here"),
    ("max_logs", "--max-logs", "-ml", "how many log lines of each channel the API shows, 100 by default"),
    (
        "rabbitmq_management_interface",
        "--rabbitmq-management-interface",
        "-rmi",
        "host:port of the broker's management API",
    ),
)
_PAIRS = (
    ("channels", "--channels", "-ch", "TYPE:CLASS, a further type of channels; no transport is started"),
    ("routers", "--routers", "", "no effect here"),
)
_FLAGS = {option: flag for option, flag, *_ in (*_TEXTS, *_PAIRS)} | {
    "allow_expired_replies": "--allow-expired-replies",
    "plugins": "--plugin",
}

DOCKER_TYPES = ("whatsapp", "vumigo", "dmark_ussd", "aat_ussd")
"""Types of channels that docker-junebug has beside those of Junebug."""

VARIABLES = frozenset(
    (
        *("JUNEBUG_INTERFACE", "JUNEBUG_PORT", "REDIS_HOST", "REDIS_PORT", "REDIS_DB"),
        *("AMQP_HOST", "AMQP_PORT", "AMQP_VHOST", "AMQP_USER", "AMQP_PASSWORD"),
        *("SENTRY_DSN", "RABBITMQ_MANAGEMENT_INTERFACE", "ALLOW_EXPIRED_REPLIES"),
        *("AUTH_USERNAME", "AUTH_PASSWORD"),
    )
)
"""The variables of docker-junebug."""

_FALSE = ("", "0", "false", "no", "off")


def _pair(text: str) -> tuple[str, str]:
    name, colon, path = text.partition(":")
    if not name or not colon:
        raise argparse.ArgumentTypeError("must be a type and a class, as in smpp:vumi.transports.smpp.Smpp")
    return name, path


def parser() -> argparse.ArgumentParser:
    """Return the parser of Junebug's command line."""
    made = argparse.ArgumentParser(
        "jb", description="Run the daemon with Junebug's command line, its junebug.yml and its Redis."
    )
    for option, flag, short, text in _TEXTS:
        names = (flag, short) if short else (flag,)
        made.add_argument(*names, dest=option, metavar="TEXT", help=text)
    for option, flag, short, text in _PAIRS:
        names = (flag, short) if short else (flag,)
        made.add_argument(*names, dest=option, metavar="TYPE:CLASS", type=_pair, action="append", help=text)
    made.add_argument(
        "--plugin", "-pl", dest="plugins", metavar="JSON", action="append", help="no effect here"
    )
    made.add_argument(
        "--allow-expired-replies",
        "-aer",
        dest="allow_expired_replies",
        action="store_const",
        const="true",
        help="send a reply to an expired message as a new message, if it has a to address",
    )
    return made


def parse(argv: Sequence[str]) -> Pieces:
    """Return the options that stand on the command line; a wrong one ends the process."""
    found = {option: value for option, value in vars(parser().parse_args(argv)).items() if value is not None}
    for option, *_ in _PAIRS:
        if option in found:
            found[option] = dict(found[option])
    return {option: Given(value, f"flag {_FLAGS[option]}") for option, value in found.items()}


def log_file(argv: Sequence[str]) -> str | None:
    """Return the log file that the command line or the file that it names has; None where neither has one."""
    given = parse(argv)
    if "logfile" in given:
        return str(given["logfile"].value)
    try:
        values = yaml_text.parse(Path(given[CONFIG].value).read_bytes()) if CONFIG in given else None
    except (OSError, ValueError):
        return None  # a fault that the start tells of
    found = values.get("logfile") if isinstance(values, dict) else None
    return os.fspath(found) if isinstance(found, str) and found else None


def variables(environ: Mapping[str, str]) -> Pieces:
    """Return the options that docker-junebug takes from these variables.

    As there, those of an address count where its host is given, and what it lacks has docker-junebug's default.
    """

    def address(host: str, **others: tuple[str, str]) -> Pieces:
        if not environ.get(host):
            return {}
        found = {}
        for option, (variable, default) in others.items():
            value = environ.get(variable) or default
            found[option.replace("__", ".")] = Given(value, f"environment variable {variable}")
        return found

    found = address("JUNEBUG_INTERFACE", interface=("JUNEBUG_INTERFACE", ""), port=("JUNEBUG_PORT", "8080"))
    found |= address(
        "REDIS_HOST",
        redis__host=("REDIS_HOST", ""),
        redis__port=("REDIS_PORT", "6379"),
        redis__db=("REDIS_DB", "1"),
    )
    found |= address(
        "AMQP_HOST",
        amqp__hostname=("AMQP_HOST", ""),
        amqp__port=("AMQP_PORT", "5672"),
        amqp__vhost=("AMQP_VHOST", "/guest"),
        amqp__username=("AMQP_USER", "guest"),
        amqp__password=("AMQP_PASSWORD", "guest"),
    )
    found |= address(
        "RABBITMQ_MANAGEMENT_INTERFACE",
        rabbitmq_management_interface=("RABBITMQ_MANAGEMENT_INTERFACE", ""),
    )
    if environ.get("ALLOW_EXPIRED_REPLIES", "").lower() not in _FALSE:
        found["allow_expired_replies"] = Given("true", "environment variable ALLOW_EXPIRED_REPLIES")
    return found


def login(environ: Mapping[str, str]) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the login that docker-junebug's proxy asks for, as ``api_auth`` has it, and a line for each fault."""
    names = ("AUTH_USERNAME", "AUTH_PASSWORD")
    given = [environ[name] for name in names if environ.get(name)]
    if len(given) == 1:
        missing = next(name for name in names if not environ.get(name))
        return None, [
            f"channels.api_auth: the environment variable {missing} is missing beside the other one"
        ]
    return ({"users": {given[0]: given[1]}} if given else None), []
