"""``junebug-turn check-config``: each value of the configuration with its source, and what can be reached.

The exit status is 0 when all is well, 1 when the configuration can't be used, 3 when it can but the broker or a
destination can't be reached, or the broker lacks what the daemon needs.  (2 is a wrong command line.)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from junebug_turn.cli.connectivity import Reached, reach
from junebug_turn.cli.terminal import run_in_reactor
from junebug_turn.config.report import DEFAULT, Report
from junebug_turn.daemon.cautions import cautions
from junebug_turn.daemon.settings import Explained, Settings, explain
from junebug_turn.errors import ConfigError
from junebug_turn.net.clocks import use_monotonic

GOOD, UNUSABLE, UNREACHABLE = 0, 1, 3
TIMEOUT = 10.0


def add_parser(tools: Any, configuration: argparse.ArgumentParser) -> None:
    """Add the tool to those of a parser; ``run`` is the default of its argument ``run``.

    :param configuration: the parser of the flags for the daemon's options
    """
    text = "show the configuration with the source of each value, and test the broker and the destinations"
    parser: argparse.ArgumentParser = tools.add_parser(
        "check-config",
        parents=[configuration],
        usage="%(prog)s [options]",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="Exit status: 0 all is well, 1 the configuration cannot be used, 2 wrong command line, 3 the broker or "
        "a destination cannot be reached, or the broker lacks a permission, a queue or a channel.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--all", action="store_true", help="show the options with default values too")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all options")
    parser.add_argument(
        "--no-connect", action="store_true", help="do not try to reach the broker and the destinations"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"the time limit for the broker and the destinations, {TIMEOUT:g} by default",
    )


def run(flags: Mapping[str, str], arguments: argparse.Namespace) -> int:
    """Check the configuration and print the report; returns the exit status.

    :param flags: option names to the text given for them
    """
    explained = explain(flags, os.environ)
    faults = list(explained.faults)
    reached: list[Reached] = []
    if explained.settings is not None:
        from twisted.internet import reactor

        use_monotonic(reactor)
        faults += _faults_of_the_parts(reactor, explained.settings)
        if not faults and not arguments.no_connect:
            connecting = partial(reach, reactor, explained.settings, arguments.timeout)
            reached = run_in_reactor(reactor, connecting)
    status = UNUSABLE if faults else GOOD if all(each.ok for each in reached) else UNREACHABLE
    if arguments.json:
        print(json.dumps(_report(explained, faults, reached, status), indent=2))
    else:
        _print(explained, faults, reached, every=arguments.all)
    return status


def _faults_of_the_parts(reactor: Any, settings: Settings) -> list[str]:
    """Return the faults that only show when the daemon is made: of files, stores and middlewares."""
    from junebug_turn.daemon.build import make_daemon

    try:
        make_daemon(reactor, settings)
    except ConfigError as error:
        return list(error.lines)
    return []


def _warnings(settings: Settings | None) -> list[str]:
    """Return the warnings that the daemon logs at its start, but for those of the process that it runs in."""
    if settings is None:
        return []
    return [*settings.warnings, *(text.format(**fields) for text, fields in cautions(settings, sys.maxsize))]


def _report(
    explained: Explained, faults: Sequence[str], reached: Sequence[Reached], status: int
) -> dict[str, Any]:
    def values(report: Report) -> dict[str, Any]:
        return {key: {"value": each.shown, "source": each.source} for key, each in report.items()}

    return {
        "status": status,
        "faults": list(faults),
        "warnings": _warnings(explained.settings),
        "daemon": values(explained.daemon),
        "applications": [values(report) for report in explained.applications],
        "reached": [attrs.asdict(each) | {"ok": each.ok} for each in reached],
    }


def _print(explained: Explained, faults: Sequence[str], reached: Sequence[Reached], *, every: bool) -> None:
    """Print the report for a person: faults and the verdict at its end, where they are seen."""
    titles = ("The daemon", *(f"Application {number}" for number in range(len(explained.applications))))
    for title, report in zip(titles, (explained.daemon, *explained.applications), strict=True):
        shown = {key: value for key, value in report.items() if every or value.source != DEFAULT}
        if report:
            print(title)
        for key, value in shown.items():
            print(f"  {key} = {json.dumps(value.shown, ensure_ascii=False)}  ({value.source})")
        if len(shown) < len(report):
            print(f"  {len(report) - len(shown)} options have their defaults: --all shows them")
    for each in reached:
        name = each.what if each.application is None else f"{each.what} of {each.application}"
        print(f"{'cannot reach' if each.fault else 'reached'} {name} at {each.where}", end="")
        print(f": {each.fault}" if each.fault else "")
        for line in each.notes:
            print(f"  {line}")
        for line in each.lacks:
            print(f"  lacks {line}")
    # Standard error is not buffered: without this its lines come first.
    sys.stdout.flush()
    for line in _warnings(explained.settings):
        print(f"junebug-turn: warning: {line}", file=sys.stderr)
    for line in faults:
        print(f"junebug-turn: {line}", file=sys.stderr)
    if not faults:
        print(_verdict(reached))


def _verdict(reached: Sequence[Reached]) -> str:
    away = sum(each.fault is not None for each in reached)
    if away:
        return f"The configuration is valid, but {away} of {len(reached)} addresses cannot be reached."
    if not all(each.ok for each in reached):
        return "The configuration is valid, but the broker lacks what the daemon needs."
    return "The configuration can be used."
