"""The command ``junebug-turn``: its command line, and the call of the tool that it names."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from junebug_turn.cli import check_config, import_junebug, parked, trace
from junebug_turn.daemon.settings import schema


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the argument ``run`` is the tool's function."""
    configuration = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = configuration.add_argument_group("configuration, as the daemon's")
    group.add_argument(
        "-c",
        "--config",
        dest="given_config",
        metavar="FILE",
        help="the YAML file; else as for the daemon, from the environment",
    )
    for name, flag in sorted({(entry.name, entry.flag) for entry in schema().entries}):
        shown = "as twistd junebug-turn --help tells" if flag.startswith("amqp") else argparse.SUPPRESS
        group.add_argument(f"--{flag}", dest=f"given_{name}", metavar="TEXT", help=shown)
    main = argparse.ArgumentParser("junebug-turn", description="Tools for the daemon.", allow_abbrev=False)
    tools = main.add_subparsers(metavar="TOOL", required=True)
    for tool in (check_config, parked, trace, import_junebug):
        tool.add_parser(tools, configuration)
    return main


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
