"""``check-config``: what the configuration is, where each value came from, and whether it leads anywhere.

The exit status is 0 when all is well, 1 when the configuration can't be used, 3 when it can but the broker or a
destination can't be reached.  (2 is a wrong command line.)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from junebug_turn.cli.connectivity import Reached, reach
from junebug_turn.config.report import Report
from junebug_turn.daemon.settings import Explained, Settings, explain, schema
from junebug_turn.errors import ConfigError

GOOD, UNUSABLE, UNREACHABLE = 0, 1, 3
TIMEOUT = 10.0


def add_parser(subparsers: Any) -> None:
    """Add the command to those of a parser; ``run`` is the default of its argument ``run``.

    It has its own arguments, and a flag for each option of the daemon.
    """
    text = "show the configuration with the source of each value, and try to reach what it names"
    parser: argparse.ArgumentParser = subparsers.add_parser("check-config", help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    parser.add_argument(
        "--no-connect", action="store_true", help="do not try to reach the broker and the destinations"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"how long the broker and the destinations may take, {TIMEOUT:g} by default",
    )
    group = parser.add_argument_group("options of the daemon, as twistd junebug-turn has them")
    group.add_argument("-c", "--config", dest="given_config", metavar="FILE", help="the YAML file")
    for flag in sorted({entry.flag for entry in schema().entries}):
        group.add_argument(f"--{flag}", dest=f"given_{flag.replace('-', '_')}", metavar="TEXT")


def run(arguments: argparse.Namespace) -> int:
    """Check, and tell; the result is the exit status."""
    flags = {
        name.removeprefix("given_"): text
        for name, text in vars(arguments).items()
        if name.startswith("given_") and text is not None
    }
    explained = explain(flags, os.environ)
    faults = list(explained.faults)
    reached: list[Reached] = []
    if explained.settings is not None:
        from twisted.internet import reactor

        faults += _faults_of_the_parts(reactor, explained.settings)
        if not faults and not arguments.no_connect:
            reached = _in_reactor(reactor, explained.settings, arguments.timeout)
    status = UNUSABLE if faults else UNREACHABLE if any(each.fault for each in reached) else GOOD
    if arguments.json:
        print(json.dumps(_report(explained, faults, reached, status), indent=2))
    else:
        _print(explained, faults, reached)
    return status


def _faults_of_the_parts(reactor: Any, settings: Settings) -> list[str]:
    """What only shows when the daemon is put together: files, classes of caches and of middlewares."""
    from junebug_turn.daemon.build import make_daemon

    try:
        make_daemon(reactor, settings)
    except ConfigError as error:
        return list(error.lines)
    return []


def _in_reactor(reactor: Any, settings: Settings, timeout: float) -> list[Reached]:
    results: list[Any] = []

    def start() -> None:
        trying = Deferred.fromCoroutine(reach(reactor, settings, timeout))
        trying.addBoth(results.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    if not isinstance(results[0], list):
        results[0].raiseException()
    return list(results[0])


def _report(
    explained: Explained, faults: Sequence[str], reached: Sequence[Reached], status: int
) -> dict[str, Any]:
    def values(report: Report) -> dict[str, Any]:
        return {key: {"value": each.shown, "source": each.source} for key, each in report.items()}

    return {
        "status": status,
        "faults": list(faults),
        "daemon": values(explained.daemon),
        "applications": [values(report) for report in explained.applications],
        "reached": [attrs.asdict(each) | {"ok": each.fault is None} for each in reached],
    }


def _print(explained: Explained, faults: Sequence[str], reached: Sequence[Reached]) -> None:
    titles = ("The daemon", *(f"Application {number}" for number in range(len(explained.applications))))
    for title, report in zip(titles, (explained.daemon, *explained.applications), strict=True):
        print(title)
        for key, value in report.items():
            print(f"  {key} = {json.dumps(value.shown, ensure_ascii=False)}  ({value.source})")
    for each in reached:
        what = each.what if each.application is None else f"{each.what} of {each.application}"
        print(f"{'can not reach' if each.fault else 'reached'} {what} at {each.where}", end="")
        print(f": {each.fault}" if each.fault else "")
    for line in faults:
        print(f"junebug-turn: {line}", file=sys.stderr)
    if not faults:
        print("The configuration can be used.")
