"""``junebug-turn parked`` and ``delayed``: they list, show, replay and purge parked and delayed messages."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.cli.selection import selection, selection_flags
from junebug_turn.cli.terminal import COLUMNS, Terminal, age, ask, plain, row, run_command
from junebug_turn.connectors.parked import Parked
from junebug_turn.connectors.parked_messages import ParkedMessages
from junebug_turn.daemon.settings import Settings, load
from junebug_turn.errors import JunebugTurnError

EVERYTHING = sys.maxsize
PROGRESS_INTERVAL = 0.5  # seconds


def add_parser(tools: Any, configuration: argparse.ArgumentParser) -> None:
    """Add both tools to those of a parser; ``run`` is the default of their argument ``run``.

    :param configuration: the parser of the flags for the daemon's options
    """
    common = selection_flags(configuration)
    _add_tool(
        tools,
        common,
        "parked",
        "list, show, replay or purge messages that could not be delivered",
        "put parked messages back into their queues, to be delivered again with all attempts",
    )
    _add_tool(
        tools,
        common,
        "delayed",
        "list, show, replay or purge messages that wait for their next attempt",
        "put delayed messages back into their queues, to be tried now",
    )


def _add_tool(tools: Any, common: argparse.ArgumentParser, state: str, text: str, replay_text: str) -> None:
    """Add the tool for the messages in a state, ``parked`` or ``delayed``."""
    tool = tools.add_parser(state, help=text, description=text, allow_abbrev=False)
    tool.set_defaults(run=run, state=state)
    verbs = tool.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str, example: str, ids: str = "") -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(
            name,
            parents=[common],
            usage=f"%(prog)s {ids}[options]",
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"Example: junebug-turn {state} {name} {example}",
            allow_abbrev=False,
        )
        return parser

    listing = verb(
        "list", f"list {state} messages without removing them", "--connector sms --reason http_status"
    )
    listing.add_argument("--limit", type=_limit, default=100, help="the most messages to list (100); 0: all")
    show = verb("show", "show one message with its headers", "0f1b... --body", "ID ")
    show.add_argument("id", metavar="ID")
    show.add_argument(
        "--body", action="store_true", help="show the body too, with the text and whole addresses"
    )
    replay = verb(
        "replay",
        replay_text,
        "--connector sms",
        "[ID ...] ",
    )
    replay.add_argument(
        "ids", metavar="ID", nargs="*", help="the ids of the messages; by default all selected messages"
    )
    replay.add_argument("--limit", type=_limit, default=EVERYTHING, help="the most messages; 0: all")
    replay.add_argument(
        "--all", action="store_true", help=f"replay every {state} message, without a question"
    )
    purge = verb("purge", f"delete {state} messages permanently", "--reason unreadable", "[ID ...] ")
    purge.add_argument(
        "ids", metavar="ID", nargs="*", help="the ids of the messages; by default all selected messages"
    )
    purge.add_argument("--limit", type=_limit, default=EVERYTHING, help="the most messages; 0: all")
    purge.add_argument("--yes", action="store_true", help="purge without a question")


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text) or EVERYTHING


def run(flags: Mapping[str, str], arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status.

    :param flags: option names to the text given for them
    """
    terminal = Terminal(sys.stdout, sys.stderr, ask if sys.stdin.isatty() else None)
    return run_command(
        terminal, lambda reactor: Command(reactor, load(flags, os.environ), arguments, terminal).run
    )


class Command:
    """One call of ``junebug-turn parked`` or ``delayed``."""

    def __init__(self, reactor: Any, settings: Settings, arguments: Any, terminal: Terminal) -> None:
        self._reactor = reactor
        self._amqp = settings.daemon.amqp
        self._arguments = arguments
        self._terminal = terminal
        self._shown = reactor.seconds()
        self._selection = selection(settings, arguments)

    async def run(self) -> int:
        """Run the verb; returns the exit status."""
        verb: Callable[[], Awaitable[int]] = getattr(self, f"_{self._arguments.verb}")
        try:
            return await verb()
        except JunebugTurnError as error:
            self._terminal.complain(str(error))
            return 1

    async def _walk(
        self, work: Callable[..., Awaitable[int]], limit: int, *see: Callable[[Parked], None]
    ) -> int:
        """Do ``work``, a method of ``ParkedMessages``, with the first ``limit`` selected messages."""
        session = await QueueBrowser.open(self._reactor, self._amqp)
        try:
            messages = ParkedMessages(session, self._progress)
            return await work(messages, self._selection, limit, *see)
        finally:
            await session.close()

    def _progress(self, queue: str, seen: int, count: int) -> None:
        """Write the progress over the last one, on a terminal, and where it takes long."""
        now, err = self._reactor.seconds(), self._terminal.err
        if now - self._shown >= PROGRESS_INTERVAL and err.isatty():
            self._shown = now
            print(f"\r\x1b[K{queue}: {seen} of {count}\r", end="", file=err, flush=True)

    def _report(self, done: str, number: int, **more: Any) -> None:
        if self._arguments.json:
            self._terminal.say(json.dumps({done.lower(): number, **more}))
        else:
            self._terminal.say(f"{done} {number} message{'s' * (number != 1)}.")

    async def _list(self) -> int:
        say, as_json = self._terminal.say, self._arguments.json
        count = 0

        def see(parked: Parked) -> None:
            nonlocal count
            summary = parked.summary()
            if as_json:
                say(f"{',' if count else '['}{json.dumps(summary)}")
            else:
                if not count:
                    say(row({name: name.replace("_", " ").upper() for name in COLUMNS}))
                say(row(summary | {"age": age(parked.age)}))
            count += 1

        await self._walk(ParkedMessages.each, self._arguments.limit, see)
        if as_json:
            say("]" if count else "[]")
        elif not count:
            say(f"No {self._arguments.state} messages.")
        elif count == self._arguments.limit:
            self._terminal.complain(f"there may be more than these {count}: --limit shows more, 0 all")
        return 0

    async def _show(self) -> int:
        found: list[Parked] = []
        await self._walk(ParkedMessages.each, 1, found.append)
        if not found:
            self._complain_of_missing(self._arguments.id)
            return 1
        (parked,) = found
        details = parked.details(body=self._arguments.body)
        if self._arguments.json:
            self._terminal.say(json.dumps(details, default=str, indent=2))
            return 0
        for name, value in details.items():
            if name == "headers":
                value = "".join(f"\n  {plain(key)}: {plain(header)}" for key, header in value.items())
                self._terminal.say(f"headers:{value}")
            else:
                shown = age(value) if name == "age" else "-" if value is None else plain(value)
                self._terminal.say(f"{name.replace('_', ' ')}: {shown}")
        return 0

    async def _replay(self) -> int:
        arguments = self._arguments
        filters = ("ids", "connector", "kind", "reason", "destination", "older_than", "newer_than")
        selected = any(getattr(arguments, name) for name in filters)
        if not selected and arguments.limit == EVERYTHING and not arguments.all:
            question = f"Replay all of the {{count}} {arguments.state} message(s)?"
            return await self._asked("Replayed", ParkedMessages.replay, question)
        return await self._change("Replayed", ParkedMessages.replay, arguments.limit)

    async def _purge(self) -> int:
        if self._arguments.yes:
            return await self._change("Purged", ParkedMessages.purge, self._arguments.limit)
        question = f"Delete {{count}} {self._arguments.state} message(s) permanently?"
        return await self._asked("Purged", ParkedMessages.purge, question)

    async def _asked(self, done: str, work: Callable[..., Awaitable[int]], question: str) -> int:
        """Ask, with the number of messages, before they are changed."""
        verb = self._arguments.verb
        if self._terminal.ask is None:
            for_scripts = "--all" if verb == "replay" else "--yes"
            self._terminal.complain(
                f"{verb} asks first, and nobody is there to answer: {for_scripts} for scripts"
            )
            return 1
        count = await self._walk(ParkedMessages.each, self._arguments.limit, lambda parked: None)
        # No connection is open while a person thinks, and no more are changed than the question names.
        if count and not self._terminal.ask(question.format(count=count)):
            self._report(done, 0)
            return 1
        return await self._change(done, work, count)

    async def _change(self, done: str, work: Callable[..., Awaitable[int]], limit: int) -> int:
        """Do ``work`` with the first ``limit`` selected messages, and report how many it was done with."""
        missing, count = dict.fromkeys(self._arguments.ids), 0

        def see(parked: Parked) -> None:
            nonlocal count
            count += 1
            missing.pop(parked.id, None)

        try:
            if limit:
                await self._walk(work, limit, see)
        finally:
            self._report(done, count, **({"missing": list(missing)} if missing else {}))
        for id in missing:
            self._complain_of_missing(id)
        return 1 if missing else 0

    def _complain_of_missing(self, id: str) -> None:
        self._terminal.complain(f"no {self._arguments.state} message has the id {plain(id)}")
