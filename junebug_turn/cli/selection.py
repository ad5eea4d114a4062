"""The selection of parked or delayed messages on a command line.  Tested by tests/unit/cli/test_parked.py."""

from __future__ import annotations

import argparse
from typing import Any

from junebug_turn.cli.terminal import plain
from junebug_turn.config.durations import duration
from junebug_turn.connectors.parked import KINDS, Selection
from junebug_turn.daemon.delay_queues import delay_queues
from junebug_turn.daemon.settings import Settings
from junebug_turn.errors import ConfigError


def selection_flags(configuration: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return the parser of the flags that select messages, with those of ``configuration``."""
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False, parents=[configuration])
    group = common.add_argument_group("which messages")
    group.add_argument("--connector", action="append", help="only of this connector; can be given again")
    group.add_argument("--kind", choices=KINDS, help="only inbound messages, or only events")
    group.add_argument("--reason", help="only messages with this reason, as list shows it")
    group.add_argument(
        "--destination", metavar="HOST", help="only for this destination: its host, or https://HOST:PORT"
    )
    group.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="only messages whose last failure is at least this long ago: 30m, 2h, 3d",
    )
    group.add_argument(
        "--newer-than",
        type=_age,
        metavar="AGE",
        help="only messages whose last failure is at most this long ago",
    )
    common.add_argument("--json", action="store_true", help="print JSON, for scripts")
    return common


def _age(text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def selection(settings: Settings, arguments: Any) -> Selection:
    """Read the selection that a command line names.

    :raises ConfigError: for a connector that is not configured
    """
    known = [application.connector_name for application in settings.applications]
    unknown = [plain(name) for name in arguments.connector or () if name not in known]
    if settings.channels is not None:
        # The channels of the store are not looked for: any name can be one's id.
        if not known and not arguments.connector:
            raise ConfigError("--connector: give it the id of a channel, since no application is configured")
    elif unknown:
        there = ", ".join(known)
        raise ConfigError(*(f"no connector is named {name}; there is {there}" for name in unknown))
    ids = [arguments.id] if arguments.verb == "show" else getattr(arguments, "ids", ())
    return Selection.of(
        arguments.connector or known,
        arguments.kind,
        arguments.reason,
        ids,
        destination=arguments.destination,
        older_than=arguments.older_than,
        newer_than=arguments.newer_than,
        delay_queues=delay_queues(settings) if arguments.state == "delayed" else (),
    )
