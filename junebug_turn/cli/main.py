"""The command ``junebug-turn``: its command line, and the call of the tool that it names."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from junebug_turn import version
from junebug_turn.applications.registry import APPLICATION_TYPES
from junebug_turn.cli import check_config, import_junebug, parked, trace
from junebug_turn.daemon.flags import CONFIG_HELP, flags
from junebug_turn.daemon.settings import DAEMON


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the argument ``run`` is the tool's function."""
    main = argparse.ArgumentParser(
        "junebug-turn",
        description="Tools for the daemon, which twistd junebug-turn starts.",
        epilog="Example: junebug-turn check-config -c /etc/junebug-turn/junebug-turn.yaml",
        allow_abbrev=False,
    )
    main.add_argument("--version", action="version", version=f"junebug-turn {version() or 'not installed'}")
    tools = main.add_subparsers(metavar="TOOL", required=True)
    check_config.add_parser(tools, _configuration(whole=True))
    for tool in (parked, trace, import_junebug):
        tool.add_parser(tools, _configuration(whole=False))
    return main


def _configuration(*, whole: bool) -> argparse.ArgumentParser:
    """Return the parser of the daemon's flags.

    :param whole: whether the help shows all of them; else those of the broker
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    text = "The flags of twistd junebug-turn."
    if not whole:
        text += " All of them work here; twistd junebug-turn --help explains the flags that are not shown."
    first = parser.add_argument_group("configuration", text)
    first.add_argument("-c", "--config", dest="given_config", metavar="FILE", help=CONFIG_HELP)
    groups: dict[str, Any] = {}
    for flag in flags():
        shown = whole or (flag.owners == (DAEMON,) and flag.name.startswith("amqp-"))
        title = _title(flag.owners)
        if shown and title not in groups:
            groups[title] = parser.add_argument_group(title)
        (groups[title] if shown else first).add_argument(
            f"--{flag.name}",
            dest=f"given_{flag.name.replace('-', '_')}",
            metavar="TEXT",
            # A % is argparse's own.
            help=flag.help.replace("%", "%%") if shown else argparse.SUPPRESS,
        )
    return parser


def _title(owners: tuple[str, ...]) -> str:
    if owners == (DAEMON,):
        return "options of the daemon"
    if len(owners) == len(APPLICATION_TYPES):
        return "options of every application"
    return f"options of application {' and '.join(owners)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0, 1 where it could not be done, 2 for a wrong line, 130 for Ctrl-C."""
    arguments = parser().parse_args(argv)
    flags = {
        name.removeprefix("given_"): text
        for name, text in vars(arguments).items()
        if name.startswith("given_") and text is not None
    }
    try:
        status = arguments.run(flags, arguments)
    except BrokenPipeError:
        # As with "| head": nobody reads on, and the interpreter must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    raise SystemExit(status)


if __name__ == "__main__":
    main()
