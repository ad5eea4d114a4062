"""The manual page and the bash completion of ``junebug-turn``, made from its parser and the table of flags.

Tested by tests/project/test_reference.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

from junebug_turn.cli.main import parser
from junebug_turn.daemon.flags import CONFIG_HELP, flags

_HEAD = """.\\" Made from the code by `make docs`.
.TH JUNEBUG-TURN 1 "" "junebug-turn" "User commands"
.SH NAME
junebug-turn \\- look at, check and repair the messaging daemon of twistd junebug-turn
.SH SYNOPSIS
.B junebug-turn
.I TOOL
[options]
.SH DESCRIPTION
junebug-turn carries messages between the AMQP queues of vumi and the HTTP APIs of Junebug, Turn, RapidPro and Kannel.
The daemon is started with
.BR "twistd junebug-turn" .
This command has the tools for it.  They read the same configuration as the daemon.
.SH TOOLS
"""

_TAIL = r""".SH EXIT STATUS
.TP
0
Done.
.TP
1
It could not be done, and a line says why.
.TP
2
The command line is wrong.
.TP
3
check-config: the broker or a destination cannot be reached, or the broker lacks what the daemon needs.
.TP
130
Ended by Ctrl-C.
.SH ENVIRONMENT
Each option is a variable too: \-\-amqp\-hostname is AMQP_HOSTNAME.  JUNEBUG_TURN_CONFIG_FILE and VUMI_CONFIG_FILE name
the
configuration file, VUMI_CONFIG_PREFIX is a prefix of all other variables.
.SH SEE ALSO
.BR twistd (1),
.BR rabbitmqctl (8)
"""


def manual(_: str) -> str:
    """The manual page, in the macros of man(7)."""
    lines = [_HEAD.rstrip("\n")]
    for words, tool in _tools(parser(), "junebug-turn"):
        lines += [f".SS {_escaped(words.removeprefix('junebug-turn '))}", _escaped(tool.description or "")]
        for action in tool._actions:  # private: argparse has no other list of a parser's arguments
            is_flag = action.dest.startswith("given_") or action.dest == "help"
            if not is_flag and action.help not in (None, argparse.SUPPRESS):
                lines += _entry(_usage(action), (action.help or "") % {"default": action.default})
        if tool.epilog:
            lines += [".PP", _escaped(tool.epilog)]
    lines += [".SH CONFIGURATION", "The flags of the daemon, which all tools but import\\-junebug take."]
    lines += _entry("-c FILE, --config FILE", CONFIG_HELP)
    for flag in flags():
        lines += _entry(f"--{flag.name} TEXT", flag.help)
    return "\n".join([*lines, _TAIL])


def completion(_: str) -> str:
    """The completion for bash: tools, flags, and files after ``--config``."""
    main = parser()
    for _words, tool in _tools(main, main.prog):
        for action in tool._actions:  # private: as above
            if action.dest in ("given_config", "config"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it there
    return str(shtab.complete(main, "bash"))


def _tools(main: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each tool and verb that has arguments of its own, with its words."""
    for action in main._actions:  # private: as above
        if isinstance(action, argparse._SubParsersAction):  # private: the class has no public name
            for name, tool in action.choices.items():
                inner = list(_tools(tool, f"{words} {name}"))
                yield from inner or [(f"{words} {name}", tool)]


def _usage(action: argparse.Action) -> str:
    value = action.metavar or action.dest.upper()
    if not action.option_strings:
        return f"[{value} ...]" if action.nargs == "*" else str(value)
    takes_value = action.nargs != 0
    return ", ".join(f"{flag} {value}" if takes_value else flag for flag in action.option_strings)


def _entry(name: str, text: Any) -> list[str]:
    return [".TP", f".B {_escaped(name)}", _escaped(str(text))]


def _escaped(text: str) -> str:
    """Return a text in which no character is a command of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + text if text.startswith(".") else text
