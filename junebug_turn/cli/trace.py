"""``junebug-turn trace``: shows all that is known of one message.

Tested by tests/integration/test_trace.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.cli.terminal import Terminal, plain, run_command
from junebug_turn.connectors.trace import Source, trace
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.daemon.delay_queues import delay_queues
from junebug_turn.daemon.settings import Settings, load
from junebug_turn.errors import AmqpConnectionError, ConfigError
from junebug_turn.state.factory import make_store
from junebug_turn.state.memory import MemoryStore
from junebug_turn.state.message_store import MessageStore


def add_parser(tools: Any, configuration: argparse.ArgumentParser) -> None:
    """Add the tool to those of a parser; ``run`` is the default of its argument ``run``.

    :param configuration: the parser of the flags for the daemon's options
    """
    text = "show everything that is known of one message: when it came, its events, and where it is delayed or parked"
    parser = tools.add_parser(
        "trace",
        parents=[configuration],
        usage="%(prog)s ID [options]",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="Example: junebug-turn trace 42be1538debc4be9bee939ee9cdad86b",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("id", metavar="ID", help="the id of an inbound or outbound message")
    parser.add_argument("--connector", action="append", help="only of this connector; can be given again")
    parser.add_argument("--full", action="store_true", help="show whole addresses and texts")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument(
        "--look",
        action="store_true",
        help="search the delay queues too",
    )


def run(flags: Mapping[str, str], arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status.

    :param flags: option names to the text given for them
    """
    terminal = Terminal(sys.stdout, sys.stderr)
    return run_command(
        terminal, lambda reactor: Command(reactor, load(flags, os.environ), arguments, terminal).run
    )


class Command:
    """One call of ``junebug-turn trace``."""

    def __init__(self, reactor: Any, settings: Settings, arguments: Any, terminal: Terminal) -> None:
        self._reactor = reactor
        self._settings = settings
        self._arguments = arguments
        self._terminal = terminal
        self._stores: list[MessageStore] = []
        self._configured = list(self._of_configured())
        known = [each.connector_name for each in settings.applications]
        self._channels = [name for name in arguments.connector or () if name not in known]
        self._messages: MessageStore | None = None
        if self._channels and settings.channels is not None:
            self._messages = self._store_of_channels(settings.channels)
        if not self._configured and not self._channels:
            raise ConfigError("--connector: give it the id of a channel, since no application is configured")

    async def run(self) -> int:
        """Show the trace; returns the exit status, 1 where nothing is known of the message."""
        complain = self._terminal.complain
        async with AsyncExitStack() as stack:
            for store in self._stores:
                await store.start()
                stack.push_async_callback(store.stop)
            sources = [*self._configured, *self._of_channels()]
            browser = None
            try:
                browser = await QueueBrowser.open(self._reactor, self._settings.daemon.amqp)
                stack.push_async_callback(browser.close)
                queues = delay_queues(self._settings) if self._arguments.look else ()
                found = await trace(self._arguments.id, sources, browser, delay_queues=queues)
            except AmqpConnectionError as error:
                complain(f"{error}; parked messages are not shown")
                found = await trace(self._arguments.id, sources)
        summary = found.summary(full=self._arguments.full)
        if self._arguments.json:
            self._terminal.say(json.dumps(summary, indent=2))
        else:
            for line in lines(summary):
                self._terminal.say(line)
        if found.unread:
            complain(
                f"the cache of {', '.join(map(plain, found.unread))} is in the daemon's memory: what it knows is at "
                f"GET /api/messages/{plain(self._arguments.id)} of admin_bind"
            )
        if not found.found:
            complain(f"nothing is known of a message {plain(self._arguments.id)}")
        return 0 if found.found else 1

    def _of_configured(self) -> Iterable[Source]:
        """Make the stores of the configured applications."""
        wanted = self._arguments.connector
        known = [each.connector_name for each in self._settings.applications]
        unknown = [name for name in wanted or () if name not in known]
        if unknown and self._settings.channels is None:
            there = ", ".join(known)
            raise ConfigError(*(f"no connector is named {plain(name)}; there is {there}" for name in unknown))
        for options in self._settings.applications:
            if wanted and options.connector_name not in wanted:
                continue
            store = make_store(
                options.store_class,
                options.store_config,
                option=options.store_option,
                connector=options.connector_name,
                clock=self._reactor,
                remember_last=options.remember_last,
            )
            yield Source(
                connector=options.connector_name,
                store=self._readable(store),
                urls=tuple(options.urls.values()),
            )

    def _store_of_channels(self, channels: ChannelsSettings) -> MessageStore | None:
        """Make the store that has siblings for the channels; None where only the daemon can read it."""
        template = channels.template
        store = make_store(
            template.store_class,
            template.store_config,
            option="channels.defaults.state_cache",
            connector="channels",
            clock=self._reactor,
            remember_last=template.remember_last,
        )
        return self._readable(store)

    def _of_channels(self) -> Iterable[Source]:
        """Yield the channels that are named, once their store is started; others are not looked for."""
        messages = self._messages
        for name in self._channels:
            yield Source(connector=name, store=None if messages is None else messages.sibling(name))

    def _readable(self, store: MessageStore) -> MessageStore | None:
        """Have a store started, unless it is in the memory of the daemon."""
        if isinstance(store, MemoryStore):
            return None
        self._stores.append(store)
        return store


def lines(summary: Mapping[str, Any]) -> Iterable[str]:
    """Return a trace's summary in lines, for a person."""
    for found in summary["connectors"]:
        yield f"{found['kind'] or 'message'} {plain(summary['id'])} on {plain(found['connector'])}"
        for name in ("from", "to", "timestamp", "content"):
            if found.get(name) is not None:
                yield f"  {name}: {plain(found[name])}"
        for step in found["steps"]:
            yield f"  {step['at']}  {_words(step)}"
        for event in found["events"]:
            if "at" not in event:  # no step of it is known
                yield f"  {event['timestamp']}  event {plain(event['event'])}"
        for parked in found["parked"]:
            yield f"  parked in {plain(parked['queue'])}: {_why(parked)}"
            if "body" in parked:
                yield f"  body: {plain(parked['body'])}"
        for destination in found["destinations"]:
            state = destination["circuit"] or "only the daemon knows its circuit"
            fault = (
                f": {destination['fault']}, since {destination['since']}" if "fault" in destination else ""
            )
            yield f"  destination {plain(destination['origin'])}: {state}{plain(fault)}"
        if found["fault"]:
            yield f"  {plain(found['fault'])}"
    for waiting in summary["waiting"]:
        yield f"waits in {plain(waiting['queue'])}: {_why(waiting)}; next try {waiting.get('next_try') or '-'}"


def _words(step: Mapping[str, Any]) -> str:
    """Write a step: its name, and its details."""
    details = [
        f"{name} {plain(value)}" for name, value in step.items() if name not in ("at", "step") and value
    ]
    return f"{step['step'].replace('_', ' ')}{': ' if details else ''}{', '.join(details)}"


def _why(parked: Mapping[str, Any]) -> str:
    status = "" if parked["last_status"] is None else f" {parked['last_status']}"
    return f"{parked['kind']}, {plain(parked['reason'])}{status}, {parked['attempts']} attempts"
